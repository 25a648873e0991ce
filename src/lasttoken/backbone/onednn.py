"""oneDNN's matrix multiplications, through torch's private operators, with a fallback where they do not work.

torch.nn.Linear passes float32 matrix multiplications on x86 CPUs to MKL, which on AMD's runs at half of what the cores
can do (measured: benchmarks/2026-11-25-speed.md). oneDNN, which torch includes, is faster there. torch reaches it
through the operators that torch.compile emits; this module calls the same ones:

    mkldnn._linear_pointwise, mkldnn._reorder_linear_weight             float32
    onednn.qlinear_prepack, onednn.qlinear_pointwise                    8 bits

They are private, so a release of torch may change them. Tested with torch 2.13; pyproject.toml allows 2.5 and later.
Before the first use each is tried on a small example. If it is missing, has another signature or gives another result,
one warning says so, and torch.nn.functional.linear computes instead, with the same result to rounding.

oneDNN compiles and keeps a program for every shape it meets, 1.1 MB with the weights of a GPT 256 wide, 1.4 MB with
GPT-2's, and with packed texts every batch has another number of rows. So rows are padded with zeros to a few round
numbers.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

TESTED = "2.13"
PACKED_FOR = 512  # rows of a batch that a packed layout is made for; any other number of rows can use it
EMPTY: list[float] = []


@cache
def has_onednn() -> bool:
    """Whether float32 matrix multiplications should go to oneDNN: on x86 CPUs, where its operators work."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    if not (is_x86 and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return False
    return bool(_try("float32 matrix multiplications", _float32_works))


@cache
def has_packing() -> bool:
    """Whether oneDNN can store a weight once in its own layout, for all multiplications with it."""
    return has_onednn() and bool(_try("packed weights", _packing_works))


@cache
def int8_passes() -> int:
    """How many of oneDNN's 8-bit multiplications an exact result takes on this processor: 1, 2, or 0 if it has none.

    Processors with VNNI add up in 32 bits. Older ones (AVX2, and the first AVX-512) add pairs in 16 bits, which
    overflow above 127: there each number from 0 to 255 is split into two halves, which are multiplied separately.
    """
    return _try("8-bit matrix multiplications", _exact_passes) if has_onednn() else 0


def _try(feature: str, probe: Callable[[], int]) -> int:
    """The probe's result; 0, with a warning, where it is 0 or the operators cannot be called."""
    reason = "they give another result"
    try:
        result = probe()
    except (AttributeError, TypeError, RuntimeError) as error:  # missing, or another signature
        result, reason = 0, str(error).strip().partition("\n")[0][:200]
    if not result:
        warnings.warn(
            f"oneDNN is not used for {feature}, because the private operators of torch {torch.__version__} are not the "
            f"expected ones ({reason}); results are the same to rounding, but slower. Tested with torch {TESTED}",
            RuntimeWarning,
            stacklevel=3,
        )
    return result


def _float32_works() -> bool:
    x, weight, bias = torch.eye(16), torch.arange(512.0).view(32, 16), torch.ones(32)
    plain = torch.equal(multiply(x, weight, bias), weight.t() + 1)
    activated = multiply(x, weight / 512, None, gelu=True)
    return plain and torch.allclose(activated, F.gelu(weight.t() / 512, approximate="tanh"), atol=1e-5)


def _packing_works() -> bool:
    weight = torch.arange(512.0).view(32, 16)
    return torch.equal(multiply(torch.eye(16), pack_weight(weight), None), weight.t())


def _exact_passes() -> int:
    integers = torch.full((16, 64), 127, dtype=torch.int8)
    integers[::2] *= -1
    packed = pack_int8_weight(integers)
    x = torch.full((16, 64), 255, dtype=torch.uint8)
    x[::2] = 0
    expected = (x.double() - 128) @ integers.t().double()
    for passes in (1, 2):
        y = multiply_int8(x, packed, torch.ones(16), torch.zeros(16, dtype=torch.int32), passes)
        if torch.equal(y.double(), expected):
            return passes
    return 0


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> Tensor:
    """x [n, in] · weight [out, in]ᵀ + bias in float32, then GELU in its tanh form if asked for."""
    kind, how = ("gelu", "tanh") if gelu else ("none", "")
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, kind, EMPTY, how)  # type: ignore[no-any-return]


def pack_weight(weight: Tensor) -> Tensor:
    """A copy of a float32 weight [out, in] in oneDNN's own layout, for `multiply`; opaque."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_FOR)  # type: ignore[no-any-return]


def pack_int8_weight(integers: Tensor) -> Tensor:
    """A copy of an int8 weight [out, in] in oneDNN's own layout, for `multiply_int8`; opaque."""
    return torch.ops.onednn.qlinear_prepack(integers, None)  # type: ignore[no-any-return]


def multiply_int8(x: Tensor, packed: Tensor, scales: Tensor, zeros: Tensor, passes: int) -> Tensor:
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
    """The number of rows that n rows are padded to: up to 16 a power of two, then at most eight values per doubling.

    >>> [round_up(n) for n in (1, 7, 17, 200, 500, 513)]
    [1, 8, 32, 208, 512, 576]
    """
    doubled: int = 2 ** (n - 1).bit_length()
    grain = max(16, doubled // 16)
    return doubled if n <= 16 else -(-n // grain) * grain


def pad_rows(x: Tensor) -> Tensor:
    """x [n, in] with rows of zeros appended, up to `round_up`."""
    extra = round_up(len(x)) - len(x)
    return F.pad(x, (0, 0, 0, extra)) if extra else x
