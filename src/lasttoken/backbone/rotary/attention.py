"""Attention with rotary positions, shared heads of keys and values, and a sliding window where a block has one.

    x [n, C] ─► q [n, H, D], k [n, G, D], v [n, G, D] ─► norms and rotation of q and k ─► softmax(q·kᵀ·scale)·v ─► o

Head h of the queries uses head h // (H/G) of keys and values (Ainslie et al. 2023, *GQA*). With a window w, a token
attends to itself and to the w - 1 tokens before it; without the causal mask, to as many after it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lasttoken.backbone.decoder import Pair
from lasttoken.backbone.linear import Linear, padded
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.rotary.config import RotaryConfig
from lasttoken.backbone.rotary.norms import norm_of
from lasttoken.backbone.rotary.rope import Rotation, Table, rotate


class Attention(nn.Module):
    """Attention of one block; `rotation` is None in a block that does not know positions."""

    def __init__(self, config: RotaryConfig, window: int, rotation: Rotation | None) -> None:
        super().__init__()
        self.n_head, self.n_kv_heads, self.head_dim = config.n_head, config.n_kv_heads, config.head_dim
        self.scale = config.head_dim**-0.5 if config.attention_scale is None else config.attention_scale
        self.window, self.rotation = window, rotation
        width, q_width, kv_width = config.n_embd, self.n_head * self.head_dim, self.n_kv_heads * self.head_dim
        has_bias = config.attention_biases != "none"
        self.q_proj = Linear(width, q_width, bias=has_bias)
        self.k_proj = Linear(width, kv_width, bias=has_bias)
        self.v_proj = Linear(width, kv_width, bias=has_bias)
        self.o_proj = Linear(q_width, width, bias=config.attention_biases == "all")
        self.qk_norm = config.qk_norm
        if config.qk_norm != "none":
            per_head = config.qk_norm == "head"
            self.q_norm = norm_of(config, self.head_dim if per_head else q_width)
            self.k_norm = norm_of(config, self.head_dim if per_head else kv_width)

    def forward(self, x: Tensor, packing: Packing, causal: bool) -> Tensor:
        """Every token attends, [n, C] -> [n, C]."""
        table = self._table(x, packing)
        rows = padded(x)
        heads = (self._queries(rows, len(x), table), self._keys(rows, len(x), table), self._values(rows, len(x)))
        groups = zip(*(packing.pad_groups(part) for part in heads), packing.groups, strict=True)
        y = packing.unpad_groups(self._attend(q, k, v, group, causal) for q, k, v, group in groups)
        return self.o_proj(y)  # type: ignore[no-any-return]

    def forward_at(self, x: Tensor, packing: Packing, position: Tensor, causal: bool) -> Tensor:
        """Only the token at `position` [B] of each text attends, [n, C] -> [B, C].

        Keys and values of all tokens are computed, everything else for B tokens.
        """
        table, rows = self._table(x, packing), packing.starts + position
        all_rows, n = padded(x), len(x)
        k = packing.pad(self._keys(all_rows, n, table)).transpose(1, 2)  # [B, G, T, D]
        v = packing.pad(self._values(all_rows, n)).transpose(1, 2)
        q = self._queries(x[rows], len(rows), (table[0][rows], table[1][rows]) if table else None)
        q = q.view(len(rows), self.n_kv_heads, -1, self.head_dim)  # [B, G, H/G, D]: heads in place of tokens
        seen = self._seen_from(position, packing, causal)[:, None, None, :]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=self.scale)
        return self.o_proj(y.reshape(len(rows), -1))  # type: ignore[no-any-return]

    def extend(self, x: Tensor, past: Pair | None) -> tuple[Tensor, Pair]:
        """The next t tokens of one text, [t, C] -> [t, C], and the keys and values [G, t, D] up to them."""
        start = 0 if past is None else past[0].shape[1]
        end = start + len(x)
        table = None if self.rotation is None else self.rotation.of_range(start, end, x)
        t = len(x)
        heads = (self._queries(x, t, table), self._keys(x, t, table), self._values(x, t))
        q, k, v = (part.transpose(0, 1) for part in heads)
        if past is not None:
            k, v = torch.cat((past[0], k), 1), torch.cat((past[1], v), 1)
        distance = torch.arange(start, end, device=x.device)[:, None] - torch.arange(end, device=x.device)
        y = self._softmax(q[None], k[None], v[None], self._is_near(distance, causal=True))[0]
        return self.o_proj(y.transpose(0, 1).flatten(1)), (k, v)

    def _table(self, x: Tensor, packing: Packing) -> Table | None:
        return None if self.rotation is None else self.rotation.of_packing(packing, x)

    def _queries(self, x: Tensor, n: int, table: Table | None) -> Tensor:
        """The first n rows of x [.., C] -> [n, H, D]."""
        return self._turned(self.q_proj(x)[:n], self.n_head, "q_norm", table)

    def _keys(self, x: Tensor, n: int, table: Table | None) -> Tensor:
        """The first n rows of x [.., C] -> [n, G, D]."""
        return self._turned(self.k_proj(x)[:n], self.n_kv_heads, "k_norm", table)

    def _turned(self, y: Tensor, n_heads: int, norm: str, table: Table | None) -> Tensor:
        if self.qk_norm == "full":
            y = self.get_submodule(norm)(y)
        y = y.view(len(y), n_heads, self.head_dim)
        if self.qk_norm == "head":
            y = self.get_submodule(norm)(y)
        return y if table is None else rotate(y, table)

    def _values(self, x: Tensor, n: int) -> Tensor:
        """The first n rows of x [.., C] -> [n, G, D]."""
        return self.v_proj(x)[:n].view(n, self.n_kv_heads, self.head_dim)  # type: ignore[no-any-return]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, packing: Packing, causal: bool) -> Tensor:
        """q [B, T, H, D], k and v [B, T, G, D] -> [B, T, H·D]."""
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        mask = None
        if self.window and packing.longest > self.window:
            mask = packing.once(("window", self.window, causal), lambda: self._window_mask(packing, causal))
        elif not causal and not packing.uniform:
            mask = packing.visible[:, None, None, :]
        return self._softmax(q, k, v, mask, causal=causal and mask is None).transpose(1, 2).flatten(2)

    def _softmax(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
        """q [B, H, t, D], k and v [B, G, T, D] -> [B, H, t, D]; `mask` is True where a token attends."""
        grouped = self.n_kv_heads != self.n_head
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, scale=self.scale, enable_gqa=grouped
        )

    def _window_mask(self, packing: Packing, causal: bool) -> Tensor:
        """[T, T], or [B, 1, T, T] without the causal mask, where padding has to be hidden."""
        positions = torch.arange(packing.longest, device=packing.device)
        distance = positions[:, None] - positions
        near = self._is_near(distance, causal)
        if causal or packing.uniform:
            return near
        # A padding token sees itself, so that no row is empty: its softmax would be NaN.
        return near & (packing.visible[:, None, None, :] | (distance == 0))

    def _is_near(self, distance: Tensor, causal: bool) -> Tensor:
        """Where a query attends, given its distance behind each key."""
        near = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
        return near & (distance.abs() < self.window) if self.window else near

    def _seen_from(self, position: Tensor, packing: Packing, causal: bool) -> Tensor:
        """Where the token at `position` [B] of each text attends, [B, T]."""
        distance = position[:, None] - torch.arange(packing.longest, device=position.device)
        return self._is_near(distance, causal) & packing.visible
