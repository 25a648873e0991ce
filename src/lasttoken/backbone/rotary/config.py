"""The switches of the network with rotary positions; a family (families.py) is a set of their values.

The letters: C n_embd, H heads of queries, G heads of keys and values, D head width, L blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from lasttoken.backbone.decoder import DecoderConfig
from lasttoken.core.tail_recipe import Positions

Scaling = Literal["none", "linear", "llama3", "yarn"]
Norm = Literal["rms", "layer"]
Placement = Literal["pre", "post", "both"]
QKNorm = Literal["none", "head", "full"]
Biases = Literal["none", "qkv", "all"]
Activation = Literal["silu", "gelu", "gelu_tanh"]


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding: its base, and how it was stretched to longer texts (rope.py)."""

    theta: float
    scaling: Scaling = "none"
    factor: float = 1.0  # the stretch; all scalings
    original_positions: int = 0  # the longest text before it was stretched; llama3, yarn
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    truncate: bool = True  # yarn: whether the limits of its ramp are whole numbers
    attention_factor: float = 1.0  # yarn: sine and cosine are multiplied by it


@dataclass(frozen=True, kw_only=True)
class RotaryConfig(DecoderConfig):
    """The sizes and switches of a decoder with rotary positions and a gated MLP."""

    positions: ClassVar[Positions] = "rotary"

    n_kv_heads: int  # G; each serves H/G heads of queries
    head_dim: int  # D; H·D may differ from C
    n_inner: int  # width of the MLP
    norm_epsilon: float
    rope: Rope
    local_rope: Rope | None = None  # of blocks with a window; None: the same as the others'
    blocks_without_rope: tuple[int, ...] = ()  # their attention does not know positions
    window: int = 0  # tokens that a token of a windowed block attends to, itself included
    windowed_blocks: tuple[int, ...] = ()
    norm: Norm = "rms"  # layer: LayerNorm without bias
    norm_plus_one: bool = False  # the norms multiply by 1 + weight
    norm_at: Placement = "pre"  # before attention and MLP, after them, or both
    qk_norm: QKNorm = "none"  # a norm of queries and keys: over each head, or over all of them together
    attention_biases: Biases = "none"
    mlp_bias: bool = False
    activation: Activation = "silu"
    attention_scale: float | None = None  # scores are multiplied by it; None: 1/√D
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0  # of what attention and MLP add
    logits_divisor: float = 1.0
    logits_softcap: float | None = None  # c: logits become c·tanh(logits/c)
    embedding_norm: bool = False  # a norm after the embedding instead of the first block's own
    lm_transform: bool = False  # a linear layer, GELU and a norm before the language-model head
    lm_bias: bool = False

    def cut_to(self, depth: int) -> Self:
        """See DecoderConfig."""
        windowed_blocks = tuple(layer for layer in self.windowed_blocks if layer < depth)
        return replace(
            self,
            n_layer=depth,
            blocks_without_rope=tuple(layer for layer in self.blocks_without_rope if layer < depth),
            windowed_blocks=windowed_blocks,
            window=self.window if windowed_blocks else 0,
        )

    def without_lm_head(self) -> Self:
        """See DecoderConfig."""
        return replace(self, tied=True, lm_transform=False, lm_bias=False)

    def window_of(self, layer: int) -> int:
        """The window of a block; 0: it has none."""
        return self.window if layer in self.windowed_blocks else 0

    def rope_of(self, layer: int) -> Rope | None:
        """The rotary embedding of a block; None: it has none."""
        if layer in self.blocks_without_rope:
            return None
        return self.local_rope if self.local_rope and layer in self.windowed_blocks else self.rope
