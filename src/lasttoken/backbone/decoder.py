"""The contract of a decoder: what the rest of the project may ask of a network, whatever its family.

    token_ids [n] ─► embed ─► block 0 ─► … ─► block L-1 ─► final norm ─► hidden [n, C] ─► logits [n, V]

n tokens packed end to end (packing.py); C n_embd, H heads, D head width, L blocks, V vocabulary, B texts.

A family subclasses `DecoderConfig`, `Block` and `Decoder`. It names its parts (`EMBEDDINGS`, `BLOCKS`, `FINAL_NORM`),
and writes `embed` and what one block computes: for all tokens (`forward`), for the next tokens of one text (`extend`)
and, where a shortcut exists, for one token of each text (`forward_at`). The rest is inherited. `Family` (family.py)
adds what concerns files. There is no dropout: the frozen part must be a function of the text.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lasttoken.backbone.half import to_float32
from lasttoken.backbone.linear import Linear
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.quantized import QuantizedTensor
from lasttoken.core.tail_recipe import Positions

DEVIATION = 0.02  # of drawn weights; Radford et al. 2018
Pair = tuple[Tensor, Tensor]  # keys and values of one block, each [heads, t, D]


@dataclass(frozen=True)
class DecoderConfig:
    """The sizes that every decoder has. A family adds its own fields; each of them is in `Decoder.fingerprint`."""

    model_type: ClassVar[str]  # of config.json, as transformers names it
    positions: ClassVar[Positions]  # the training recipe depends on it

    vocab_size: int
    n_positions: int  # tokens in the longest text
    n_embd: int
    n_layer: int
    n_head: int
    tied: bool = True  # the language-model head is the token embedding

    def cut_to(self, depth: int) -> Self:
        """The config of the network of its first `depth` blocks. A family with a field for each block cuts it too."""
        return replace(self, n_layer=depth)

    def without_lm_head(self) -> Self:
        """The config of a decoder whose language-model head is not kept, because nothing asks for its logits."""
        return replace(self, tied=True)


class KeyValues:
    """Keys and values of the tokens of one text so far, one pair for each block."""

    def __init__(self, n_layer: int) -> None:
        self.pairs: list[Pair | None] = [None] * n_layer
        self.n_tokens = 0

    def fork(self) -> KeyValues:
        """A copy that can grow on its own. The tensors are shared, because none is ever written to."""
        copy = KeyValues(len(self.pairs))
        copy.pairs, copy.n_tokens = list(self.pairs), self.n_tokens
        return copy


class Block(nn.Module, ABC):
    """One transformer block."""

    @abstractmethod
    def forward(self, x: Tensor, packing: Packing, causal: bool) -> Tensor:
        """The output for every token, [n, C] -> [n, C]."""

    def forward_at(self, x: Tensor, packing: Packing, position: Tensor, causal: bool) -> Tensor:
        """The output for the token at `position` [B] of each text only, [n, C] -> [B, C].

        Must equal `forward` at that token. This default computes all of them; a family overrides it to save time.
        """
        return self(x, packing, causal)[packing.starts + position]  # type: ignore[no-any-return]

    @abstractmethod
    def extend(self, x: Tensor, past: Pair | None) -> tuple[Tensor, Pair]:
        """The output for the next t tokens of one text, [t, C] -> [t, C], and the keys and values up to them.

        `past`: keys and values of the tokens before; None at the start of a text.
        """


class Decoder(nn.Module, ABC):
    """A whole network. Its parameters carry the published names; linear weights are [out, in].

    The weights are unset until they are loaded. Matrices may be stored in 16 bits: `Linear` (linear.py) and `Embedding`
    (half.py) convert them where they are used. Vectors are float32.
    """

    EMBEDDINGS: ClassVar[tuple[str, ...]]  # submodules that run before the first block, the token embedding first
    BLOCKS: ClassVar[str]  # the ModuleList of blocks
    FINAL_NORM: ClassVar[str]  # the norm after the last block
    RESIDUAL: ClassVar[str | None] = None  # end of the names of projections that are drawn smaller, see `init_weights`

    config: DecoderConfig
    lm_head: nn.Module | None  # None: tied to the token embedding
    quantized: dict[str, QuantizedTensor]  # the blocks that frozen parameters were dequantized from, by parameter name:
    # a checkpoint stores them. Whoever changes such a parameter removes it here

    def __init__(self) -> None:
        super().__init__()
        self.quantized = {}

    @abstractmethod
    def embed(self, token_ids: Tensor, positions: Tensor) -> Tensor:
        """Tokens and their positions in their own texts, both [n] -> input of the first block [n, C]."""

    @torch.no_grad()
    def init_weights(self, seed: int) -> Self:
        """Draw weights where none are loaded: normal 0.02, zero biases, and norms that change nothing. Returns self.

        GPT-2 divides the deviation of its projections back into the residual stream by √(2L).
        """
        generator, residual_scale = torch.Generator().manual_seed(seed), math.sqrt(2 * self.config.n_layer)
        for module_name, module in self.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.dim() > 1:
                    is_residual = self.RESIDUAL is not None and f"{module_name}.{name}".endswith(self.RESIDUAL)
                    deviation = DEVIATION / (residual_scale if is_residual else 1.0)
                    parameter.copy_(torch.empty(parameter.shape).normal_(0.0, deviation, generator=generator))
                elif name == "bias":
                    parameter.zero_()
                else:  # of a norm
                    module.reset_parameters()
        return self

    @property
    def blocks(self) -> list[Block]:
        """The blocks, first to last."""
        return list(self.get_submodule(self.BLOCKS).children())  # type: ignore[arg-type]

    @property
    def embeddings(self) -> list[nn.Module]:
        """The modules that run before the first block."""
        return [self.get_submodule(name) for name in self.EMBEDDINGS]

    @property
    def final_norm(self) -> nn.Module:
        """The norm after the last block, [..., C] -> [..., C]."""
        return self.get_submodule(self.FINAL_NORM)

    @property
    def token_embedding(self) -> Tensor:
        """The embedding of each token, [V, C]."""
        return self.get_parameter(f"{self.EMBEDDINGS[0]}.weight")

    def forward(self, token_ids: Tensor, packing: Packing, causal: bool = True) -> Tensor:
        """Packed token ids [n] -> hidden [n, C], after the final norm."""
        x = self.embed(token_ids, packing.positions)
        for block in self.blocks:
            x = block(x, packing, causal)
        return self.final_norm(x)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, [..., C] -> [..., V]."""
        weight = self.token_embedding if self.lm_head is None else self.get_parameter("lm_head.weight")
        return F.linear(hidden, to_float32(weight))

    def extend(self, token_ids: Tensor, cache: KeyValues) -> Tensor:
        """The next t tokens of one text, [t] -> hidden [t, C]; `cache` grows by them."""
        start = cache.n_tokens
        assert start + len(token_ids) <= self.config.n_positions  # generation.py checks it first
        x = self.embed(token_ids, torch.arange(start, start + len(token_ids), device=token_ids.device))
        for layer, block in enumerate(self.blocks):
            x, cache.pairs[layer] = block.extend(x, cache.pairs[layer])
        cache.n_tokens += len(token_ids)
        return self.final_norm(x)  # type: ignore[no-any-return]

    def fingerprint(self) -> dict[str, Any]:
        """Everything that changes features and is not a tensor: the architecture and each field of the config."""
        return {"model_type": self.config.model_type, **asdict(self.config)}

    def front_tensors(self, n_blocks: int, with_final_norm: bool = False) -> dict[str, Tensor]:
        """The parameters of the embeddings and the first blocks by name, and of the final norm if asked for."""
        names = [*self._front(n_blocks), *([self.FINAL_NORM] if with_final_norm else [])]
        return {
            f"{name}.{parameter_name}": parameter
            for name in names
            for parameter_name, parameter in self.get_submodule(name).named_parameters()
        }

    def twin(self) -> Self:
        """A copy of the modules whose tensors are this decoder's own, in the same memory.

        Whoever trains the copy gives it tensors of its own first (`Classifier.own_tail`).
        """
        shared: dict[int, Any] = {id(tensor): tensor for tensor in self.buffers()}
        shared |= {
            id(parameter): nn.Parameter(parameter.detach(), parameter.requires_grad) for parameter in self.parameters()
        }
        shared[id(self.quantized)] = dict(self.quantized)
        return deepcopy(self, shared)

    def share_front(self, other: Decoder, n_blocks: int) -> None:
        """Use the embeddings and first blocks of another decoder, so that their weights are in memory once."""
        for name in self._front(n_blocks):
            parent, _, attribute = name.rpartition(".")
            setattr(self.get_submodule(parent), attribute, other.get_submodule(name))

    def _front(self, n_blocks: int) -> list[str]:
        return [*self.EMBEDDINGS, *(f"{self.BLOCKS}.{layer}" for layer in range(n_blocks))]

    def state_without_lm_head(self) -> dict[str, Tensor]:
        """The tensors that hidden vectors depend on, by name, on the CPU; updates (low_rank.py) are merged."""
        state = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("lm_head.")}
        for name, layer in self.named_modules():
            if isinstance(layer, Linear) and layer.low_rank is not None:
                state[f"{name}.weight"] = layer.effective_weight.detach()
        return {name: tensor.cpu() for name, tensor in state.items() if ".low_rank." not in name}
