"""Attention for one token of each text without computing keys or values of the others; gradient written by hand.

With K = x·Wkᵀ + bk and one query q for each text and head,

    q·K_t = (q·Wk)·x_t + q·bk             q·bk is the same for all t and drops out of the softmax
    Σ a_t·V_t = (Σ a_t·x_t)·Wvᵀ + bv      because Σ a_t = 1

so the multiplications over all tokens cost 4·H·C for each token instead of 4·C·C (for 124M: 64 times less). bk has no
gradient at all, where the usual order gives it rounding noise. In the order of `forward`, with the shapes of one head:

    q = x_at·Wqᵀ + bq [B, D]     u = q·Wk [B, C]     a = softmax(u·xᵀ/√D) [B, T]     z = a·x [B, C]     y = z·Wvᵀ + bv

With autograd each step takes about forty small operations and two copies of the weight's gradient, half as much time
again as the multiplications; here the gradient of the weight is written once. It is compared with autograd and with the
usual order in tests/backbone/gpt2/test_attention_at.py.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lasttoken.backbone.half import to_float32
from lasttoken.backbone.linear import linear, matmul
from lasttoken.backbone.packing import Packing


def attention_at(
    x: Tensor, packing: Packing, position: Tensor, weight: Tensor, bias: Tensor, n_head: int, causal: bool
) -> Tensor:
    """Attention of the token at `position` [B] of each text: x [n, C], weight [3C, C], bias [3C] -> [B, C]."""
    weight = to_float32(weight)
    with torch.autocast(x.device.type, enabled=False):
        return _AttentionAt.apply(x.to(weight.dtype), packing, position, weight, bias, n_head, causal)  # type: ignore[no-any-return, no-untyped-call]


class _AttentionAt(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, packing: Packing, position: Tensor, weight: Tensor, bias: Tensor, n_head: int, causal: bool
    ) -> Tensor:
        batch, width = packing.n_texts, x.shape[1]
        w_q, w_k, w_v = weight.view(3, width, width)
        b_q, _, b_v = bias.view(3, width)
        rows = packing.starts + position
        x_at, keys = x[rows], packing.pad(x)  # [B, C], [B, T, C]
        q = linear(x_at, w_q, b_q).view(batch, n_head, -1).transpose(0, 1)  # [H, B, D]
        u = (q @ w_k.view(n_head, -1, width)).transpose(0, 1).contiguous()  # [B, H, C]
        scores = u @ keys.transpose(1, 2) / math.sqrt(width // n_head)  # [B, H, T]
        seen = torch.arange(packing.longest, device=x.device) <= position[:, None] if causal else packing.visible
        a = scores.masked_fill_(~seen[:, None, :], -math.inf).softmax(-1)
        z = (a @ keys).transpose(0, 1).contiguous()  # [H, B, C]
        y = z @ w_v.view(n_head, -1, width).transpose(1, 2)  # [H, B, D]
        ctx.save_for_backward(x_at, keys, weight, rows, q, u, a, z)
        ctx.packing = packing
        return torch.add(y.transpose(0, 1).reshape(batch, width), b_v)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x_at, keys, weight, rows, q, u, a, z = ctx.saved_tensors
        n_head, batch, width = z.shape
        w_q, w_k, w_v = weight.view(3, width, width)
        dy_h = dy.view(batch, n_head, -1).transpose(0, 1)  # [H, B, D]
        dz = (dy_h @ w_v.view(n_head, -1, width)).transpose(0, 1).contiguous()  # [B, H, C]
        da = dz @ keys.transpose(1, 2)  # [B, H, T]
        ds = a * (da - (a * da).sum(-1, keepdim=True)) / math.sqrt(width // n_head)
        du = (ds @ keys).transpose(0, 1)  # [H, B, C]
        dq = (du @ w_k.view(n_head, -1, width).transpose(1, 2)).transpose(0, 1).reshape(batch, width)
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            dkeys = torch.cat((a, ds), 1).transpose(1, 2) @ torch.cat((dz, u), 1)  # x_t counts as a value and as a key
            dx = ctx.packing.unpad(dkeys)
            dx[rows] += matmul(dq, w_q.t())  # one row for each text, so no index repeats
        if ctx.needs_input_grad[3]:
            dw = torch.empty_like(weight)
            torch.mm(dq.t(), x_at, out=dw[:width])
            torch.bmm(q.transpose(1, 2), du, out=dw[width : 2 * width].view(n_head, -1, width))
            torch.bmm(dy_h.transpose(1, 2), z, out=dw[2 * width :].view(n_head, -1, width))
        if ctx.needs_input_grad[4]:
            db = torch.cat((dq.sum(0), torch.zeros_like(dq[0]), dy.sum(0)))
        return dx, None, None, dw, db, None, None
