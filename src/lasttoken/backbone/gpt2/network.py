"""GPT-2's network, with GPT-2's own names, on packed texts.

    token_ids [n] ─► wte + wpe ─► h.0 ─► … ─► h.(L-1) ─► ln_f ─► hidden [n, C] ─► wteᵀ ─► logits [n, V]
    one block:     x + attn(ln_1(x)),  then  x + mlp(ln_2(x))

n tokens packed end to end (packing.py); C n_embd, H heads, D = C/H head width, T longest text, B texts.
Sources: Radford et al. 2019, *Language Models are Unsupervised Multitask Learners*; the tensor names and the
pre-LayerNorm order are those of openai/gpt-2. Dropout has no place here: the trunk must be a function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lasttoken.backbone.gpt2.attention_at import attention_at
from lasttoken.backbone.linear import Linear
from lasttoken.backbone.packing import Packing


@dataclass(frozen=True)
class GPT2Config:
    """The shape of a GPT. Any size; the published ones are in catalog.py."""

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int | None = None  # width of the MLP; None: 4 * n_embd
    layer_norm_epsilon: float = 1e-5
    tied: bool = True  # the output layer is the token embedding


class KeyValues:
    """Keys and values of the tokens seen so far, one pair [H, t, D] for each block. For one text."""

    def __init__(self, n_layer: int) -> None:
        self.pairs: list[tuple[Tensor, Tensor] | None] = [None] * n_layer
        self.n_tokens = 0

    def fork(self) -> KeyValues:
        """A continuation that leaves this one as it is; the tensors are shared, never written to."""
        copy = KeyValues(len(self.pairs))
        copy.pairs, copy.n_tokens = list(self.pairs), self.n_tokens
        return copy


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

    def read(self, x: Tensor, packing: Packing, at: Tensor, causal: bool) -> Tensor:
        """Only the token at position `at` [B] of each text attends, [n, C] -> [B, C]; see reading.py."""
        c_attn = self.c_attn
        return self.c_proj(attention_at(x, packing, at, c_attn.weight, c_attn.bias, self.n_head, causal))  # type: ignore[no-any-return]

    def extend(self, x: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The next t tokens of one text, [t, C] -> [t, C] and the keys and values up to there."""
        q, k, v = self.c_attn(x).view(len(x), 3, self.n_head, -1).permute(1, 2, 0, 3)  # each [H, t, D]
        if past is not None:
            k, v = torch.cat((past[0], k), 1), torch.cat((past[1], v), 1)
        t, total = q.shape[1], k.shape[1]
        mask = torch.ones(t, total, dtype=torch.bool, device=x.device).tril(total - t)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.c_proj(y.transpose(0, 1).flatten(1)), (k, v)


class MLP(nn.Module):
    """Two linear layers with GELU in its tanh form, as GPT-2 was trained."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        inner = config.n_inner or 4 * config.n_embd
        self.c_fc = Linear(config.n_embd, inner)
        self.c_proj = Linear(inner, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """[n, C] -> [n, C]."""
        return self.c_proj(self.c_fc(x, gelu=True))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One transformer block."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, packing: Packing, causal: bool) -> Tensor:
        """[n, C] -> [n, C]."""
        x = x + self.attn(self.ln_1(x), packing, causal)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]

    def read(self, x: Tensor, packing: Packing, at: Tensor, causal: bool) -> Tensor:
        """The block's output for the token at position `at` [B] of each text only, [n, C] -> [B, C]."""
        y = x[packing.starts + at] + self.attn.read(self.ln_1(x), packing, at, causal)
        return y + self.mlp(self.ln_2(y))  # type: ignore[no-any-return]

    def extend(self, x: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """[t, C] -> [t, C], after the tokens whose keys and values are `past`."""
        y, pair = self.attn.extend(self.ln_1(x), past)
        x = x + y
        return x + self.mlp(self.ln_2(x)), pair


class GPT2(nn.Module):
    """The whole network. Its parameters carry the published names; linear weights are [out, in].

    The embeddings are unset until weights are loaded or `init_weights` draws them.
    """

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        # Unset: nn.Embedding's random start, on the meta device, imports torch's compiler (two seconds, for nothing).
        wte, wpe = (torch.empty(n, config.n_embd) for n in (config.vocab_size, config.n_positions))
        self.wte = nn.Embedding.from_pretrained(wte, freeze=False)  # type: ignore[no-untyped-call]
        self.wpe = nn.Embedding.from_pretrained(wpe, freeze=False)  # type: ignore[no-untyped-call]
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.lm_head = None if config.tied else nn.Linear(config.n_embd, config.vocab_size, bias=False)

    @property
    def blocks(self) -> list[Block]:
        """h, for its type."""
        return list(self.h)  # type: ignore[arg-type]

    def embed(self, token_ids: Tensor, packing: Packing) -> Tensor:
        """[n] -> [n, C]."""
        return self.wte(token_ids) + self.wpe(packing.positions)  # type: ignore[no-any-return]

    def forward(self, token_ids: Tensor, packing: Packing, causal: bool = True) -> Tensor:
        """Packed token ids [n] -> hidden [n, C], after ln_f."""
        x = self.embed(token_ids, packing)
        for block in self.blocks:
            x = block(x, packing, causal)
        return self.ln_f(x)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, [..., C] -> [..., V]."""
        return F.linear(hidden, self.wte.weight if self.lm_head is None else self.lm_head.weight)

    def extend(self, token_ids: Tensor, cache: KeyValues) -> Tensor:
        """The next t tokens of one text, [t] -> hidden [t, C]; `cache` grows by them."""
        start = cache.n_tokens
        assert start + len(token_ids) <= self.config.n_positions  # generation.py sees to it
        x = self.wte(token_ids) + self.wpe.weight[start : start + len(token_ids)]
        for layer, block in enumerate(self.blocks):
            x, cache.pairs[layer] = block.extend(x, cache.pairs[layer])
        cache.n_tokens += len(token_ids)
        return self.ln_f(x)  # type: ignore[no-any-return]

    @torch.no_grad()
    def init_weights(self, seed: int) -> GPT2:
        """Random weights as GPT-2 was initialised: normal 0.02, residual projections over √(2L). Returns self."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if "ln_" in name:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            elif name.endswith("bias"):
                parameter.zero_()
            else:
                scale = math.sqrt(2 * self.config.n_layer) if name.endswith("c_proj.weight") else 1.0
                parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 0.02 / scale, generator=generator))
        return self
