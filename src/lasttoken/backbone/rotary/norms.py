"""The norms of the network: RMSNorm, or LayerNorm without bias.

Source: Zhang and Sennrich 2019, *Root Mean Square Layer Normalization*. On CPUs torch composes its own of many small
operations, and its gradient of more. Here it takes three passes over x, and the gradient is written by hand:

    y = x̂ · w,   x̂ = x / √(mean(x²) + ε)        dx = (g - x̂ · mean(g · x̂)) / √(mean(x²) + ε),  g = dy · w
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lasttoken.backbone.rotary.config import RotaryConfig


class RMSNorm(nn.Module):
    """x / √(mean(x²) + ε) · weight over the last axis; with `plus_one` · (1 + weight), as Gemma stores its norms."""

    def __init__(self, width: int, epsilon: float, plus_one: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.epsilon, self.plus_one = epsilon, plus_one

    def reset_parameters(self) -> None:
        """Make it multiply by one."""
        nn.init.constant_(self.weight, 0.0 if self.plus_one else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        weight = self.weight + 1 if self.plus_one else self.weight
        x = x.to(weight.dtype)  # under autocast it may have 16 bits
        if x.device.type != "cpu":
            return F.rms_norm(x, (len(weight),), weight, self.epsilon)
        if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
            return _RMSNorm.apply(x, weight, self.epsilon)  # type: ignore[no-any-return, no-untyped-call]
        return (x * _scale(x, self.epsilon)).mul_(weight)


def _scale(x: Tensor, epsilon: float) -> Tensor:
    """1 / √(mean(x²) + ε), [..., 1]."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()  # type: ignore[no-any-return]


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        scale = _scale(x, epsilon)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        normed, dx, dw = x * scale, None, None
        if ctx.needs_input_grad[1]:
            dw = (grad * normed).flatten(0, -2).sum(0)
        if ctx.needs_input_grad[0]:
            dx = grad * weight
            dx = dx.addcmul_(normed, (dx * normed).mean(-1, keepdim=True), value=-1).mul_(scale)
        return dx, dw, None


def norm_of(config: RotaryConfig, width: int) -> nn.Module:
    """A norm over `width` numbers, of the kind that the config says."""
    if config.norm == "layer":
        return nn.LayerNorm(width, eps=config.norm_epsilon, bias=False)
    return RMSNorm(width, config.norm_epsilon, config.norm_plus_one)
