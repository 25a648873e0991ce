"""GPT-2's network, with GPT-2's own names, on packed texts.

    token_ids [n] ─► wte + wpe ─► h.0 ─► … ─► h.(L-1) ─► ln_f ─► hidden [n, C] ─► wteᵀ ─► logits [n, V]
    one block:     x + attn(ln_1(x)),  then  x + mlp(ln_2(x))

n tokens packed end to end (packing.py); C n_embd, H heads, D = C/H head width, T longest text, B texts.
Sources: Radford et al. 2019, *Language Models are Unsupervised Multitask Learners*; the tensor names and the
pre-LayerNorm order are those of openai/gpt-2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lasttoken.backbone.decoder import Block, Decoder, DecoderConfig, Pair
from lasttoken.backbone.gpt2.attention_at import attention_at
from lasttoken.backbone.half import Embedding
from lasttoken.backbone.linear import Linear
from lasttoken.backbone.packing import Packing
from lasttoken.core.tail_recipe import Positions


@dataclass(frozen=True)
class GPT2Config(DecoderConfig):
    """The shape of a GPT-2. Any size; the published ones are in catalog.py."""

    model_type: ClassVar[str] = "gpt2"
    positions: ClassVar[Positions] = "learned"

    n_inner: int | None = None  # width of the MLP; None: 4 * n_embd
    layer_norm_epsilon: float = 1e-5


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, packing: Packing, causal: bool) -> Tensor:
        """Every token attends, [n, C] -> [n, C]."""
        padded = zip(packing.pad_groups(self.c_attn(x)), packing.groups, strict=True)
        y = packing.unpad_groups(self._attend(qkv, group, causal) for qkv, group in padded)
        return self.c_proj(y)  # type: ignore[no-any-return]

    def _attend(self, qkv: Tensor, packing: Packing, causal: bool) -> Tensor:
        """[B, T, 3C] -> [B, T, C]."""
        qkv = qkv.view(packing.n_texts, packing.longest, 3, self.n_head, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [B, H, T, D]
        mask = None if causal or packing.uniform else packing.visible[:, None, None, :]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return y.transpose(1, 2).flatten(2)

    def forward_at(self, x: Tensor, packing: Packing, position: Tensor, causal: bool) -> Tensor:
        """Only the token at `position` [B] of each text attends, [n, C] -> [B, C]; see attention_at.py."""
        c_attn = self.c_attn
        y = attention_at(x, packing, position, c_attn.effective_weight, c_attn.bias, self.n_head, causal)
        return self.c_proj(y)  # type: ignore[no-any-return]

    def extend(self, x: Tensor, past: Pair | None) -> tuple[Tensor, Pair]:
        """The next t tokens of one text, [t, C] -> [t, C], and the keys and values up to them."""
        q, k, v = self.c_attn(x).view(len(x), 3, self.n_head, -1).permute(1, 2, 0, 3)  # each [H, t, D]
        if past is not None:
            k, v = torch.cat((past[0], k), 1), torch.cat((past[1], v), 1)
        t, total = q.shape[1], k.shape[1]
        mask = torch.ones(t, total, dtype=torch.bool, device=x.device).tril(total - t)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.c_proj(y.transpose(0, 1).flatten(1)), (k, v)


class MLP(nn.Module):
    """Two linear layers with GELU in its tanh form between them, as GPT-2 was trained."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        inner = config.n_inner or 4 * config.n_embd
        self.c_fc = Linear(config.n_embd, inner)
        self.c_proj = Linear(inner, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """[n, C] -> [n, C]."""
        return self.c_proj(self.c_fc(x, gelu=True))  # type: ignore[no-any-return]


class GPT2Block(Block):
    """One transformer block."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, packing: Packing, causal: bool) -> Tensor:
        """See Block."""
        x = x + self.attn(self.ln_1(x), packing, causal)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]

    def forward_at(self, x: Tensor, packing: Packing, position: Tensor, causal: bool) -> Tensor:
        """See Block."""
        y = x[packing.starts + position] + self.attn.forward_at(self.ln_1(x), packing, position, causal)
        return y + self.mlp(self.ln_2(y))  # type: ignore[no-any-return]

    def extend(self, x: Tensor, past: Pair | None) -> tuple[Tensor, Pair]:
        """See Block."""
        y, pair = self.attn.extend(self.ln_1(x), past)
        x = x + y
        return x + self.mlp(self.ln_2(x)), pair


class GPT2(Decoder):
    """The whole network."""

    EMBEDDINGS = ("wte", "wpe")
    BLOCKS = "h"
    FINAL_NORM = "ln_f"
    RESIDUAL = "c_proj.weight"

    config: GPT2Config
    lm_head: nn.Linear | None

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(GPT2Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.lm_head = None if config.tied else nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def embed(self, token_ids: Tensor, positions: Tensor) -> Tensor:
        """See Decoder."""
        return self.wte(token_ids) + self.wpe(positions)  # type: ignore[no-any-return]
