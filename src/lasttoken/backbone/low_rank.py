"""LoRA: a frozen weight W [out, in] with a trained update of low rank, y = x·Wᵀ + b + s·(x·Aᵀ)·Bᵀ.

    x [n, in] ─┬─► W, frozen ──────────────────────────────────► +  ─► y [n, out]
               └─► A [r, in] ─► u [n, r] ─► B [out, r] ─► · s ──┘

A is drawn at random and B is zero, so a training starts from the pretrained network. No gradient of W is computed.
Without gradients, W + s·B·A is multiplied, which is what a run saves. Where one weight holds several projections, as
GPT-2's queries, keys and values, each of these `parts` may have an A and a B of its own: A is [parts·r, in], and B
stays [out, r].
Source: Hu et al. 2021, *LoRA: Low-Rank Adaptation of Large Language Models*; A is drawn as peft draws it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lasttoken.backbone.half import to_float32

Multiply = Callable[[Tensor], Tensor]


class LowRank(nn.Module):
    """The update s·B·A of one weight; peft's tensors have the names of its parameters."""

    def __init__(self, weight: Tensor, rank: int, scale: float, parts: int = 1) -> None:
        """An update of zero for a weight [out, in], on its device and at least in float32. `draw` draws A."""
        super().__init__()
        n_out, n_in = weight.shape
        kind: dict[str, Any] = {"dtype": torch.promote_types(weight.dtype, torch.float32), "device": weight.device}
        self.rank, self.scale, self.parts = rank, scale, parts
        self.lora_A = nn.Parameter(torch.zeros(parts * rank, n_in, **kind))
        self.lora_B = nn.Parameter(torch.zeros(n_out, rank, **kind))

    @torch.no_grad()
    def draw(self, like_book: bool = False) -> None:
        """Draw A from torch's global generator, uniformly within ±1/√in, and set B to zero.

        The book's script draws A transposed, and within ±1/√r.
        """
        n_in = self.lora_A.shape[1]
        for part in self.lora_A.chunk(self.parts):
            shape, fan = ((n_in, self.rank), self.rank) if like_book else ((self.rank, n_in), n_in)
            drawn = torch.empty(shape).uniform_(-(fan**-0.5), fan**-0.5)
            part.copy_(drawn.t() if like_book else drawn)
        self.lora_B.zero_()

    def factors(self) -> tuple[Tensor, Tensor]:
        """A [parts·r, in] and B [out, parts·r]; with several parts B is block-diagonal."""
        if self.parts == 1:
            return self.lora_A, self.lora_B
        return self.lora_A, torch.block_diag(*self.lora_B.chunk(self.parts))  # type: ignore[no-untyped-call]

    def added_to(self, weight: Tensor) -> Tensor:
        """W + s·B·A, [out, in], at least in float32; differentiable with respect to A and B."""
        with torch.autocast(weight.device.type, enabled=False):
            a, b = self.factors()
            return torch.addmm(to_float32(weight), b, a, alpha=self.scale)


@dataclass(frozen=True)
class Frozen:
    """The products of a frozen weight."""

    forward: Multiply  # x [n, in] -> x·Wᵀ + bias [n, out], a new tensor
    backward: Multiply  # g [n, out] -> g·W [n, in], a new tensor


def low_rank_linear(x: Tensor, frozen: Frozen, update: LowRank) -> Tensor:
    """x [n, in] through a frozen weight and its update, [n, out], with gradients of x, A and B."""
    a, b = update.factors()
    return _LowRankLinear.apply(x, a, b, update.scale, frozen)  # type: ignore[no-any-return, no-untyped-call]


class _LowRankLinear(torch.autograd.Function):
    """The sum of both products, and its gradients; what is added is added in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, scale: float, frozen: Frozen) -> Tensor:
        u = x @ a.t()  # [n, r]
        ctx.save_for_backward(x, a, b, u)
        ctx.scale, ctx.frozen = scale, frozen
        return frozen.forward(x).addmm_(u, b.t(), alpha=scale)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, a, b, u = ctx.saved_tensors
        grad = grad.contiguous()
        du = (grad @ b).mul_(ctx.scale)  # [n, r]
        dx = ctx.frozen.backward(grad).addmm_(du, a) if ctx.needs_input_grad[0] else None
        da = du.t() @ x if ctx.needs_input_grad[1] else None
        # (uᵀ·g)ᵀ takes half the time of gᵀ·u, whose result is narrow.
        db = (u.t() @ grad).t().mul(ctx.scale).contiguous() if ctx.needs_input_grad[2] else None
        return dx, da, db, None, None
