"""Rotary position embedding: each pair of numbers of a query or key is turned by an angle that grows with its position.

    pair i of D/2:  (x_i, x_(i + D/2))  turned by  position · frequency_i,    frequency_i = θ^(-2i/D), possibly scaled

The score of a query and a key then depends on the distance between them. Sources: Su et al. 2021, *RoFormer*; which
numbers form a pair is as in Hugging Face's checkpoints. Scaling: Chen et al. 2023 (linear), Peng et al. 2023 (YaRN),
and Llama 3.1's own. Angles are computed in float32, as transformers computes them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lasttoken.backbone.packing import Packing
from lasttoken.backbone.rotary.config import Rope

Table = tuple[Tensor, Tensor]  # cosine and sine, each [n, 1, D/2]
MIN_POSITIONS = 256  # of a table


def frequencies(rope: Rope, head_dim: int, device: torch.device | None = None) -> Tensor:
    """Radians per position of each pair, [D/2]."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float, device=device) / head_dim
    plain = 1.0 / (rope.theta**exponents)
    if rope.scaling == "linear":
        return plain / rope.factor
    if rope.scaling == "llama3":
        return _llama3(rope, plain)
    if rope.scaling == "yarn":
        return _yarn(rope, plain, head_dim)
    return plain


def _llama3(rope: Rope, plain: Tensor) -> Tensor:
    """Slow pairs are slowed by the factor, fast ones are kept, those between are interpolated."""
    turns = rope.original_positions * plain / (2 * math.pi)  # over the longest original text
    kept = ((turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)).clamp(0, 1)
    return (1 - kept) * plain / rope.factor + kept * plain


def _yarn(rope: Rope, plain: Tensor, head_dim: int) -> Tensor:
    """As Llama 3.1's, with a ramp over the index of the pair."""

    def index_of(turns: float) -> float:  # of the pair that turns so often over the longest original text
        return head_dim * math.log(rope.original_positions / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = index_of(rope.beta_fast), index_of(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    steps = torch.arange(head_dim // 2, dtype=torch.float, device=plain.device)
    slowed = ((steps - low) / (high - low if high != low else 0.001)).clamp(0, 1)
    return slowed * plain / rope.factor + (1 - slowed) * plain


class Rotation:
    """The rotations of one kind of block: its table of sines and cosines grows with the texts."""

    def __init__(self, rope: Rope, head_dim: int) -> None:
        self.rope, self.head_dim = rope, head_dim
        self._tables: dict[tuple[torch.device, torch.dtype], Table] = {}

    def table(self, n_positions: int, like: Tensor) -> Table:
        """Cosine and sine of at least the first positions, on the device and in the number format of `like`."""
        key = (like.device, like.dtype)
        known = self._tables.get(key)
        if known is None or len(known[0]) < n_positions:
            n = max(MIN_POSITIONS, 2 ** (n_positions - 1).bit_length())
            positions = torch.arange(n, dtype=torch.float, device=like.device)
            angles = positions[:, None, None] * frequencies(self.rope, self.head_dim, like.device)
            factor = self.rope.attention_factor
            known = ((angles.cos() * factor).to(like.dtype), (angles.sin() * factor).to(like.dtype))
            self._tables[key] = known
        return known

    def of_packing(self, packing: Packing, like: Tensor) -> Table:
        """Cosine and sine for each packed token; looked up once for all blocks."""

        def look_up() -> Table:
            cos, sin = self.table(packing.longest, like)
            return cos[packing.positions], sin[packing.positions]

        return packing.once((self, like.device, like.dtype), look_up)

    def of_range(self, start: int, end: int, like: Tensor) -> Table:
        """Cosine and sine for the positions of one text from `start` to `end`."""
        cos, sin = self.table(end, like)
        return cos[start:end], sin[start:end]


def rotate(x: Tensor, table: Table) -> Tensor:
    """Turn queries or keys [n, heads, D] by their positions."""
    if x.dtype != table[0].dtype:  # under autocast x has 16 bits
        return rotate(x.to(table[0].dtype), table).to(x.dtype)
    if torch.is_grad_enabled() and x.requires_grad:
        return _Rotate.apply(x, *table)  # type: ignore[no-any-return, no-untyped-call]
    return _turned(x, *table)


def _turned(x: Tensor, cos: Tensor, sin: Tensor, back: bool = False) -> Tensor:
    """(a, b) -> (a·cos - b·sin, b·cos + a·sin), or the inverse turn; four passes that write their result in place."""
    a, b = x.chunk(2, -1)
    turned = torch.empty_like(x, memory_format=torch.contiguous_format)
    first, second = turned.chunk(2, -1)
    sign = -1 if back else 1
    torch.mul(a, cos, out=first).addcmul_(b, sin, value=-sign)
    torch.mul(b, cos, out=second).addcmul_(a, sin, value=sign)
    return turned


class _Rotate(torch.autograd.Function):
    """A rotation, whose gradient is the rotation back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grad, cos, sin, back=True), None, None
