"""Linear layers that are fast on CPUs: float32 by oneDNN, and 8 bits for a frozen trunk.

On other devices, in other number formats and where oneDNN's operators do not work (onednn.py), torch's own linear layer
computes, with the same result to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lasttoken.backbone import onednn
from lasttoken.backbone.int8 import Int8Weight


def matmul(x: Tensor, weight: Tensor) -> Tensor:
    """x [n, in] · weight [out, in]ᵀ without gradients; either may be a transposed view."""
    if x.dtype != torch.float32 or x.device.type != "cpu" or not onednn.has_onednn():
        return x @ weight.t()
    return onednn.multiply(x, weight, None)


class _Linear(torch.autograd.Function):
    """x · weightᵀ + bias with its gradients, all by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows = onednn.pad_rows(x)
        ctx.save_for_backward(rows, weight)
        return onednn.multiply(rows, weight, bias)[: len(x)]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows = onednn.pad_rows(grad.contiguous())
        grad_x = onednn.multiply(rows, weight.t(), None)[: len(grad)] if ctx.needs_input_grad[0] else None
        grad_weight = onednn.multiply(rows.t(), x.t(), None) if ctx.needs_input_grad[1] else None
        grad_bias = grad.sum(0) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> Tensor:
    """x [..., in] · weight [out, in]ᵀ + bias, then GELU in its tanh form if asked for; by oneDNN where it is faster."""
    if x.dim() != 2:
        return linear(x.reshape(-1, x.shape[-1]), weight, bias, gelu).view(*x.shape[:-1], -1)
    is_float32_on_cpu = x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if not is_float32_on_cpu or not onednn.has_onednn():
        y = F.linear(x, weight, bias)
    elif torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        y = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    else:
        return onednn.multiply(onednn.pad_rows(x), weight, bias, gelu)[: len(x)]
    return F.gelu(y, approximate="tanh") if gelu else y


class Linear(nn.Linear):
    """torch.nn.Linear on [n, in], by `linear`. `pack` stores the weight in oneDNN's layout; `quantize` uses 8 bits."""

    int8: Int8Weight | None = None
    packed: Tensor | None = None  # the weight in oneDNN's own layout; opaque

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        """[n, in] -> [n, out], then GELU in its tanh form if asked for."""
        if self.int8 is not None:
            y = self.int8.multiply(x, self.bias)
            return F.gelu(y, approximate="tanh") if gelu else y
        needs_gradient = torch.is_grad_enabled() and x.requires_grad
        if self.packed is not None and not needs_gradient and not torch.is_autocast_enabled("cpu"):
            return linear(x, self.packed, self.bias, gelu)
        return linear(x, self.weight, self.bias, gelu)

    @property
    def can_pack(self) -> bool:
        """Whether `pack` would do anything: float32 on the CPU, neither packed nor in 8 bits, and oneDNN can."""
        on_cpu = self.weight.dtype == torch.float32 and self.weight.device.type == "cpu"
        return on_cpu and self.packed is None and self.int8 is None and onednn.has_packing()

    @torch.no_grad()
    def pack(self) -> None:
        """Multiply by a copy in oneDNN's own layout from now on; the float32 weight must not change any more.

        The weight itself stays, for gradients of x and for saving. Without oneDNN this does nothing.
        """
        assert not self.weight.requires_grad
        if self.can_pack:
            self.packed = onednn.pack_weight(self.weight.detach().contiguous())

    def quantize(self) -> None:
        """Compute in 8 bits from now on. The float32 weight stays for saving; it must not be trained any more."""
        assert not self.weight.requires_grad
        self.int8 = Int8Weight(self.weight)
