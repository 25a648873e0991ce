"""Linear layers that are quick on CPUs: oneDNN's float32 products, and int8 products for a frozen trunk.

torch.nn.Linear hands float32 products on x86 CPUs to MKL, which on AMD's runs at half of what the cores can do
(measured: benchmarks/2026-11-25-speed.md). oneDNN, which comes with torch too, does not; torch reaches it through the
operators that torch.compile emits, and here through the same ones. Where they are missing, or for any other device or
number format, everything falls back to torch.nn.functional.linear, with the same result to rounding.

oneDNN makes, and keeps, programs for every shape it meets, 1.1 MB with the weights of `pocket`, 1.4 with GPT-2's: with
packed texts every number of rows would be one more. So rows are filled up with zeros to a few round numbers.

int8: y = (q_x - 128) · q_wᵀ · s_x · s_w + b, where s_x is one scale for each token and s_w one for each output:

    s_x = max|x| / 127,  q_x = round(x / s_x) + 128  (uint8)        s_w, q_w likewise (int8, symmetric)

A scale belongs to one token, so the answer for a text does not depend on what it is batched with (a scale for the
whole tensor, as in torch's own dynamic quantization, would). The sum of products is exact in 32-bit integers.
Source of the scheme: Dettmers et al. 2022, *LLM.int8()*, section 2 (row- and column-wise absmax quantization).
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TINY = 1e-12  # below it a row counts as zeros
PACKED_FOR = 512  # rows of a batch; other numbers read the same layout
PAGE_OUT = 21  # Linux's MADV_PAGEOUT
EMPTY: list[float] = []


@cache
def has_onednn() -> bool:
    """Whether oneDNN's float32 products are there and worth taking: torch on an x86 CPU."""
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and platform.machine().lower() in ("x86_64", "amd64")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


@cache
def has_packing() -> bool:
    """Whether oneDNN lays out a weight once for all its products, and they come out right."""
    if not (has_onednn() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")):
        return False
    x, weight = torch.eye(16), torch.arange(512.0).view(32, 16)
    try:
        found = _onednn(x, torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR), None)
    except RuntimeError:
        return False
    return torch.equal(found, weight.t())


def drop_mapped_pages(tensors: Iterable[Tensor]) -> None:
    """Let the system take back the memory of tensors that lie in mapped files; they are read again when needed.

    Nothing is lost: other tensors, and pages that were written to, stay as they are. Linux only.
    """
    mapped = _file_mappings()  # a system call: hand over many tensors at once
    for tensor in tensors:
        start, n_bytes = tensor.data_ptr(), tensor.numel() * tensor.element_size()
        first, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, (start + n_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > first and any(low <= start < high for low, high in mapped):
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), PAGE_OUT)


def _file_mappings() -> list[tuple[int, int]]:
    """Address ranges [first, end) of this process that are mapped from files; none where the system does not say."""
    try:
        lines = Path("/proc/self/maps").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    fields = (line.split(maxsplit=5) for line in lines)  # range, permissions, offset, device, inode, path
    ranges = [part[0].split("-") for part in fields if len(part) == 6 and part[4] != "0"]
    return [(int(low, 16), int(high, 16)) for low, high in ranges]


@cache
def int8_passes() -> int:
    """How many of oneDNN's 8-bit multiplications an exact result takes here: 1, 2, or 0 where it has none.

    Processors with VNNI add products up in 32 bits. Older ones (AVX2, and the first AVX-512) add pairs of them up in 16
    bits, which overflow above 127: there each number from 0 to 255 is split into two halves, multiplied separately.
    """
    if not (has_onednn() and hasattr(torch.ops.onednn, "qlinear_pointwise")):
        return 0
    integers = torch.full((16, 64), 127, dtype=torch.int8)
    integers[::2] *= -1
    packed = torch.ops.onednn.qlinear_prepack(integers, None)
    x = torch.full((16, 64), 255, dtype=torch.uint8)
    x[::2] = 0
    expected = (x.double() - 128) @ integers.t().double()
    for passes in (1, 2):
        found = _int8(x, packed, torch.ones(16), torch.zeros(16, dtype=torch.int32), passes)
        if torch.equal(found.double(), expected):
            return passes
    return 0


def _int8(x: Tensor, packed: Tensor, scales: Tensor, zeros: Tensor, passes: int) -> Tensor:
    """(x - 128) · wᵀ · scales for x [n, in] in uint8; with two passes as (a - 64) + (b - 64), a and b halves of x."""
    if passes == 1:
        return _qlinear(x, 128, packed, scales, zeros)
    half = x >> 1
    return _qlinear(half, 64, packed, scales, zeros) + _qlinear(x - half, 64, packed, scales, zeros)


def _qlinear(x: Tensor, zero: int, packed: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    return torch.ops.onednn.qlinear_pointwise(  # type: ignore[no-any-return]
        x, 1.0, zero, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", EMPTY, ""
    )


def round_up(n: int) -> int:
    """The number of rows that n rows are filled up to: at most eight numbers in each doubling, and up to 16
    the powers of two.

    >>> [round_up(n) for n in (1, 7, 17, 200, 500, 513)]
    [1, 8, 32, 208, 512, 576]
    """
    doubled: int = 2 ** (n - 1).bit_length()
    grain = max(16, doubled // 16)
    return doubled if n <= 16 else -(-n // grain) * grain


def fill_rows(x: Tensor) -> Tensor:
    """x [n, in] with rows of zeros behind it, up to `round_up`."""
    extra = round_up(len(x)) - len(x)
    return F.pad(x, (0, 0, 0, extra)) if extra else x


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> Tensor:
    kind, how = ("gelu", "tanh") if gelu else ("none", "")
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, kind, EMPTY, how)  # type: ignore[no-any-return]


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x [n, in] · weight [out, in]ᵀ, for which no gradient is asked; either may be a transposed view."""
    if x.dtype != torch.float32 or x.device.type != "cpu" or not has_onednn():
        return x @ weight.t()
    return _onednn(x, weight, None)


class _Product(torch.autograd.Function):
    """x · weightᵀ + bias with its gradients, all by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        filled = fill_rows(x)
        ctx.save_for_backward(filled, weight)
        return _onednn(filled, weight, bias)[: len(x)]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        filled = fill_rows(grad.contiguous())
        of_x = _onednn(filled, weight.t(), None)[: len(grad)] if ctx.needs_input_grad[0] else None
        of_weight = _onednn(filled.t(), x.t(), None) if ctx.needs_input_grad[1] else None
        of_bias = grad.sum(0) if ctx.needs_input_grad[2] else None
        return of_x, of_weight, of_bias


def linear(x: Tensor, weight: Tensor, bias: Tensor, gelu: bool = False) -> Tensor:
    """x [..., in] · weight [out, in]ᵀ + bias, then GELU in its tanh form if asked for; by oneDNN if it is quicker."""
    if x.dim() != 2:
        return linear(x.reshape(-1, x.shape[-1]), weight, bias, gelu).view(*x.shape[:-1], -1)
    if x.dtype != torch.float32 or x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or not has_onednn():
        y = F.linear(x, weight, bias)
    elif torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        y = _Product.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    else:
        return _onednn(fill_rows(x), weight, bias, gelu)[: len(x)]
    return F.gelu(y, approximate="tanh") if gelu else y


class Linear(nn.Linear):
    """torch.nn.Linear on [n, in] by `linear`; `pack` lays its weight out as oneDNN reads it, `quantize` makes its
    matrix multiplications 8-bit."""

    int8: Int8Weight | None = None
    packed: Tensor | None = None  # the weight in oneDNN's own layout; opaque

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        """[n, in] -> [n, out], then GELU in its tanh form if asked for."""
        if self.int8 is not None:
            y = self.int8.product(x, self.bias)
            return F.gelu(y, approximate="tanh") if gelu else y
        differentiated = torch.is_grad_enabled() and x.requires_grad
        if self.packed is not None and not differentiated and not torch.is_autocast_enabled("cpu"):
            return linear(x, self.packed, self.bias, gelu)
        return linear(x, self.weight, self.bias, gelu)

    @property
    def can_pack(self) -> bool:
        """Whether `pack` would do anything: float32 on the CPU, not packed, not in 8 bits, and oneDNN has the means."""
        on_cpu = self.weight.dtype == torch.float32 and self.weight.device.type == "cpu"
        return on_cpu and self.packed is None and self.int8 is None and has_packing()

    @torch.no_grad()
    def pack(self) -> None:
        """Multiply by a copy in oneDNN's own layout from now on; the float32 weight must not change any more.

        The weight itself stays, for gradients of x and to be saved. Does nothing where oneDNN is not used.
        """
        assert not self.weight.requires_grad
        if self.can_pack:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach().contiguous(), PACKED_FOR)

    def quantize(self) -> None:
        """Compute in 8 bits from now on. The float32 weight stays, to be saved; it must not be trained any more."""
        assert not self.weight.requires_grad
        self.int8 = Int8Weight(self.weight)


class Int8Weight:
    """A weight [out, in] as 8-bit integers with a scale for each output."""

    @torch.no_grad()
    def __init__(self, weight: Tensor) -> None:
        scales = weight.abs().amax(1).clamp_min(TINY) / 127
        integers = (weight / scales[:, None]).round().to(torch.int8).contiguous()
        self.scales = scales.float()
        self.zeros = torch.zeros(len(scales), dtype=torch.int32)
        self.packed = torch.ops.onednn.qlinear_prepack(integers, None) if int8_passes() else integers.t().double()

    @torch.no_grad()
    def product(self, x: Tensor, bias: Tensor) -> Tensor:
        """[n, in] -> [n, out] in float32, each row by its own scale."""
        scales = x.abs().amax(1, keepdim=True).clamp_min_(TINY).mul_(1 / 127)
        quantized = (x / scales).add_(128.5).to(torch.uint8)  # the cast rounds down
        if passes := int8_passes():
            y = _int8(fill_rows(quantized), self.packed, self.scales, self.zeros, passes)[: len(x)]
        else:
            y = ((quantized.double() - 128) @ self.packed).float() * self.scales
        return torch.addcmul(bias, y, scales)
