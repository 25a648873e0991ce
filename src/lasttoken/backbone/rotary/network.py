"""The network with rotary positions and a gated MLP, with the names of Hugging Face's Llama, on packed texts.

    token_ids [n] ─► embed_tokens ─► layers.0 ─► … ─► layers.(L-1) ─► norm ─► hidden [n, C] ─► lm_head ─► logits [n, V]

    norm_at   a block                                            its norms, in the order of their use
    pre       x + attn(norm(x)),        x + mlp(norm(x))         input, post_attention
    post      x + norm(attn(x)),        x + norm(mlp(x))         post_attention, post_feedforward
    both      x + norm(attn(norm(x))),  x + norm(mlp(norm(x)))   input, post_attention, pre_ and post_feedforward

So `post_attention_layernorm` precedes the MLP in `pre`, and follows the attention in the others. n tokens packed end to
end (packing.py); the other letters are in config.py. Sources: Touvron et al. 2023, *LLaMA*; the tensor names and the
switches are those of transformers' models.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lasttoken.backbone.decoder import Block, Decoder, Pair
from lasttoken.backbone.half import Embedding, to_float32
from lasttoken.backbone.linear import Linear, padded
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.rotary.attention import Attention
from lasttoken.backbone.rotary.config import Placement, RotaryConfig
from lasttoken.backbone.rotary.norms import norm_of
from lasttoken.backbone.rotary.rope import Rotation

INPUT, POST_ATTENTION = "input_layernorm", "post_attention_layernorm"
PRE_MLP, POST_MLP = "pre_feedforward_layernorm", "post_feedforward_layernorm"
NORMS: dict[Placement, tuple[str | None, str | None, str | None, str | None]] = {
    # before and after the attention, before and after the MLP
    "pre": (INPUT, None, POST_ATTENTION, None),
    "post": (None, POST_ATTENTION, None, POST_MLP),
    "both": (INPUT, POST_ATTENTION, PRE_MLP, POST_MLP),
}


class MLP(nn.Module):
    """down(activation(gate(x)) · up(x)); Shazeer 2020, *GLU Variants Improve Transformer*."""

    def __init__(self, config: RotaryConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.n_embd, config.n_inner, bias=config.mlp_bias)
        self.up_proj = Linear(config.n_embd, config.n_inner, bias=config.mlp_bias)
        self.down_proj = Linear(config.n_inner, config.n_embd, bias=config.mlp_bias)
        self.activation = config.activation

    def forward(self, x: Tensor) -> Tensor:
        """[n, C] -> [n, C]."""
        rows = padded(x)
        gate, up = self.gate_proj(rows, gelu=self.activation == "gelu_tanh"), self.up_proj(rows)
        keep = gate.requires_grad or up.requires_grad  # otherwise nothing is needed again, and memory is reused
        if self.activation == "silu":
            gate = F.silu(gate, inplace=not keep)
        elif self.activation == "gelu":
            gate = F.gelu(gate)
        return self.down_proj(gate * up if keep else gate.mul_(up))[: len(x)]  # type: ignore[no-any-return]


class RotaryBlock(Block):
    """One transformer block."""

    def __init__(self, config: RotaryConfig, layer: int, rotation: Rotation | None) -> None:
        super().__init__()
        self.self_attn = Attention(config, config.window_of(layer), rotation)
        self.mlp = MLP(config)
        self.residual_multiplier = config.residual_multiplier
        norms = NORMS[config.norm_at]
        if config.embedding_norm and layer == 0:
            norms = (None, *norms[1:])
        self._before_attention, self._after_attention, self._before_mlp, self._after_mlp = norms
        for name in filter(None, norms):
            self.add_module(name, norm_of(config, config.n_embd))

    def forward(self, x: Tensor, packing: Packing, causal: bool) -> Tensor:
        """See Block."""
        return self._finish(x, self.self_attn(self._norm(self._before_attention, x), packing, causal))

    def forward_at(self, x: Tensor, packing: Packing, position: Tensor, causal: bool) -> Tensor:
        """See Block."""
        y = self.self_attn.forward_at(self._norm(self._before_attention, x), packing, position, causal)
        return self._finish(x[packing.starts + position], y)

    def extend(self, x: Tensor, past: Pair | None) -> tuple[Tensor, Pair]:
        """See Block."""
        y, pair = self.self_attn.extend(self._norm(self._before_attention, x), past)
        return self._finish(x, y), pair

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the block after its attention, [n, C] -> [n, C]."""
        x = self._add(x, self._norm(self._after_attention, attended))
        return self._add(x, self._norm(self._after_mlp, self.mlp(self._norm(self._before_mlp, x))))

    def _norm(self, name: str | None, x: Tensor) -> Tensor:
        return x if name is None else self.get_submodule(name)(x)

    def _add(self, x: Tensor, y: Tensor) -> Tensor:
        """x + y · multiplier. y belongs to the caller alone: it is overwritten where no gradient needs it."""
        keep = x.requires_grad or y.requires_grad or x.dtype != y.dtype  # under autocast y may have 16 bits
        if self.residual_multiplier != 1:
            y = y * self.residual_multiplier if keep else y.mul_(self.residual_multiplier)
        return x + y if keep else y.add_(x)


class LMHead(nn.Module):
    """What comes between the final hidden state and the logits; its weight is absent where it is the embedding."""

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, config: RotaryConfig) -> None:
        super().__init__()
        if config.lm_transform:
            self.dense = Linear(config.n_embd, config.n_embd, bias=False)
            self.norm = norm_of(config, config.n_embd)
        weight = None if config.tied else nn.Parameter(torch.empty(config.vocab_size, config.n_embd))
        self.register_parameter("weight", weight)
        self.register_parameter("bias", nn.Parameter(torch.empty(config.vocab_size)) if config.lm_bias else None)
        self.has_transform = config.lm_transform

    def forward(self, hidden: Tensor, token_embedding: Tensor) -> Tensor:
        """[..., C] -> [..., V]."""
        if self.has_transform:
            hidden = self.norm(F.gelu(self.dense(hidden)))
        weight = token_embedding if self.weight is None else self.weight
        return F.linear(hidden, to_float32(weight), self.bias)


class RotaryDecoder(Decoder):
    """The whole network."""

    EMBEDDINGS = ("model.embed_tokens", "model.embed_norm")
    BLOCKS: ClassVar[str] = "model.layers"
    FINAL_NORM: ClassVar[str] = "model.norm"

    config: RotaryConfig

    def __init__(self, config: RotaryConfig) -> None:
        super().__init__()
        self.config = config
        self.model = nn.Module()
        self.model.embed_tokens = Embedding(config.vocab_size, config.n_embd)
        self.model.embed_norm = norm_of(config, config.n_embd) if config.embedding_norm else nn.Identity()
        ropes = [config.rope_of(layer) for layer in range(config.n_layer)]
        rotations = {rope: Rotation(rope, config.head_dim) for rope in ropes if rope}
        self.model.layers = nn.ModuleList(
            RotaryBlock(config, layer, rotations[rope] if rope else None) for layer, rope in enumerate(ropes)
        )
        self.model.norm = norm_of(config, config.n_embd)
        has_head = not config.tied or config.lm_transform or config.lm_bias
        self.lm_head = LMHead(config) if has_head else None

    def embed(self, token_ids: Tensor, positions: Tensor) -> Tensor:
        """See Decoder. Positions enter in the attention."""
        x = self.get_submodule("model.embed_tokens")(token_ids)
        if self.config.embedding_multiplier != 1:
            x = x * self.config.embedding_multiplier
        return self.get_submodule("model.embed_norm")(x)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        """See Decoder."""
        config = self.config
        logits = super().logits(hidden) if self.lm_head is None else self.lm_head(hidden, self.token_embedding)
        if config.logits_divisor != 1:
            logits = logits / config.logits_divisor
        if config.logits_softcap is not None:
            logits = torch.tanh(logits / config.logits_softcap) * config.logits_softcap
        return logits
