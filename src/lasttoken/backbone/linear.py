"""Linear layers that are fast on CPUs: float32 by oneDNN, and 8 bits for a frozen trunk.

A frozen weight may be stored in 16 bits (half.py): it is packed in float32, or converted for each multiplication. It
may have a trained update of low rank (low_rank.py).

On other devices, in other number formats and where oneDNN's operators do not work (onednn.py), torch's own linear layer
computes, with the same result to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lasttoken.backbone import onednn
from lasttoken.backbone.half import HALF, is_half, to_float32
from lasttoken.backbone.int8 import Int8Weight
from lasttoken.backbone.low_rank import Frozen, LowRank, low_rank_linear


def matmul(x: Tensor, weight: Tensor) -> Tensor:
    """x [n, in] · weight [out, in]ᵀ without gradients; either may be a transposed view."""
    return _multiply(x, weight, None)


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [n, in] · weight [out, in]ᵀ + bias without gradients."""
    if x.dtype != torch.float32 or x.device.type != "cpu" or not onednn.has_onednn():
        return F.linear(x, weight, bias)
    return onednn.multiply(x, weight, bias)


class _Linear(torch.autograd.Function):
    """x · weightᵀ + bias with its gradients, all by oneDNN. A weight in 16 bits is kept so, and converted twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows = onednn.pad_rows(x)
        ctx.save_for_backward(rows, weight)
        return _multiply(rows, to_float32(weight), bias)[: len(x)]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows = onednn.pad_rows(grad.contiguous())
        grad_x = _multiply(rows, to_float32(weight).t(), None)[: len(grad)] if ctx.needs_input_grad[0] else None
        grad_weight = _multiply(rows.t(), x.t(), None) if ctx.needs_input_grad[1] else None
        grad_bias = grad.sum(0) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> Tensor:
    """x [..., in] · weight [out, in]ᵀ + bias, then GELU in its tanh form if asked for; by oneDNN where it is faster."""
    if x.dim() != 2:
        return linear(x.reshape(-1, x.shape[-1]), weight, bias, gelu).view(*x.shape[:-1], -1)
    is_autocast = torch.is_autocast_enabled(x.device.type)  # it converts weights itself
    by_onednn = x.dtype == torch.float32 and x.device.type == "cpu" and not is_autocast and onednn.has_onednn()
    needs_gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if needs_gradient and (by_onednn or (is_half(weight) and not is_autocast)):
        y = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    elif by_onednn:
        return onednn.multiply(onednn.pad_rows(x), to_float32(weight), bias, gelu)[: len(x)]
    elif is_autocast:
        y = F.linear(padded(x), weight, bias)[: len(x)]
    else:
        y = F.linear(x, to_float32(weight), bias)
    return F.gelu(y, approximate="tanh") if gelu else y


def padded(x: Tensor) -> Tensor:
    """x [n, in] with the rows of zeros that oneDNN's kernels need, for several layers of the same input.

    Each layer would append them itself. The rows after the first n of what is computed have to be dropped. Under
    autocast torch computes with oneDNN too, whose kernels for 16 bits take longer to compile.
    """
    by_onednn = x.device.type == "cpu" and (x.dtype == torch.float32 or torch.is_autocast_enabled("cpu"))
    return onednn.pad_rows(x) if by_onednn and onednn.has_onednn() else x


class Linear(nn.Linear):
    """torch.nn.Linear on [n, in], by `linear`.

    `pack` stores the weight in oneDNN's layout; `quantize` uses 8 bits; `add_low_rank` freezes it and trains an update.
    """

    int8: Int8Weight | None = None
    packed: Tensor | None = None  # the weight in oneDNN's own layout; opaque
    low_rank: LowRank | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.register_module("low_rank", None)

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        """[n, in] -> [n, out], then GELU in its tanh form if asked for."""
        if self.int8 is not None:
            y = self.int8.multiply(x, self.bias)
            return F.gelu(y, approximate="tanh") if gelu else y
        if self.low_rank is not None:
            return self._updated(x, self.low_rank, gelu)
        needs_gradient = torch.is_grad_enabled() and x.requires_grad
        if self.packed is not None and not needs_gradient and not torch.is_autocast_enabled("cpu"):
            return linear(x, self.packed, self.bias, gelu)
        return linear(x, self.weight, self.bias, gelu)

    def _updated(self, x: Tensor, update: LowRank, gelu: bool) -> Tensor:
        """`forward` with the update. Without gradients it is added to the weight, as in a saved run."""
        if not torch.is_grad_enabled():
            return linear(x, update.added_to(self.weight), self.bias, gelu)
        if torch.is_autocast_enabled(x.device.type):  # it converts weights itself
            rows, (a, b) = padded(x), update.factors()
            y = (F.linear(rows, self.weight, self.bias) + F.linear(F.linear(rows, a), b) * update.scale)[: len(x)]
        else:
            rows = padded(x)
            y = low_rank_linear(rows, Frozen(self._multiply, self._multiply_back), update)[: len(x)]
        return F.gelu(y, approximate="tanh") if gelu else y

    def _multiply(self, rows: Tensor) -> Tensor:
        weight = to_float32(self.weight) if self.packed is None else self.packed
        return _multiply(rows, weight, self.bias)

    def _multiply_back(self, grad: Tensor) -> Tensor:
        return _multiply(grad, to_float32(self.weight).t(), None)

    @property
    def effective_weight(self) -> Tensor:
        """The weight [out, in] with its update; differentiable with respect to the update."""
        return self.weight if self.low_rank is None else self.low_rank.added_to(self.weight)

    def add_low_rank(self, rank: int, scale: float, parts: int = 1) -> LowRank:
        """Freeze the weight and train an update of it, which is zero until it is trained; see LowRank."""
        self.requires_grad_(False)
        self.low_rank = LowRank(self.weight, rank, scale, parts)
        return self.low_rank

    @torch.no_grad()
    def merge(self) -> None:
        """Add the update to the weight, and end it."""
        if self.low_rank is not None:
            merged = self.low_rank.added_to(self.weight).contiguous()
            self.weight, self.low_rank, self.packed = nn.Parameter(merged, requires_grad=False), None, None

    @property
    def can_pack(self) -> bool:
        """Whether `pack` would do anything: on the CPU, neither packed nor in 8 bits nor float64, and oneDNN can."""
        on_cpu = self.weight.device.type == "cpu" and self.weight.dtype in (torch.float32, *HALF)
        return on_cpu and self.packed is None and self.int8 is None and onednn.has_packing()

    @property
    def converts(self) -> bool:
        """Whether each multiplication converts the weight from 16 bits."""
        return is_half(self.weight) and self.packed is None and self.int8 is None

    @torch.no_grad()
    def pack(self) -> None:
        """Multiply by a copy in oneDNN's own layout from now on; the weight must not change any more.

        The weight itself stays, for gradients of x and for saving. Without oneDNN this does nothing.
        """
        assert not self.weight.requires_grad
        if self.can_pack:
            self.packed = onednn.pack_weight(to_float32(self.weight.detach()).contiguous())

    def unpack(self) -> None:
        """Compute with the weight itself again."""
        self.packed = self.int8 = None

    def quantize(self) -> None:
        """Compute in 8 bits from now on. The weight itself stays for saving; it must not be trained any more."""
        assert not self.weight.requires_grad
        self.int8 = Int8Weight(self.weight)
