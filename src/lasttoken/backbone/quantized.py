"""A tensor as blocks of few bits, as GGUF files hold it.

    raw [rows, bytes] ──► dequantize ──► float32 [rows, n]        Q4_1: 32 numbers in 20 bytes, Q8_0: 32 in 34

Blocks lie along the rows, so rows can be permuted and cut without being dequantized. The `gguf` package dequantizes;
it is imported where it is needed, because that takes 0.1 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.core.errors import BackboneError

FLOATS = ("F32", "F16", "BF16")  # stored numbers of which none shares its bits with others


@dataclass(frozen=True)
class QuantizedTensor:
    """A matrix or vector in one of GGUF's types."""

    raw: NDArray[np.uint8]  # [rows, bytes in a row]
    type: str  # such as Q4_1
    shape: tuple[int, ...]

    @property
    def in_blocks(self) -> bool:
        """Whether it takes fewer bits than 16-bit numbers do, because the numbers of a block share a scale."""
        return self.type not in FLOATS

    def dequantize(self) -> Tensor:
        """The numbers, in float32.

        Raises:
            BackboneError: gguf knows the type but cannot dequantize it.
        """
        import gguf
        from gguf.quants import dequantize

        try:
            numbers = dequantize(self.raw, gguf.GGMLQuantizationType[self.type])
        except NotImplementedError as error:
            raise BackboneError(
                f"weights of the type {self.type} cannot be dequantized by gguf {_version()}; give a file with another "
                "quantization, such as Q8_0 or Q4_K_M"
            ) from error
        numbers = np.ascontiguousarray(numbers, dtype=np.float32)
        if not numbers.flags.writeable:  # F32 in a mapped file
            numbers = numbers.copy()
        return torch.from_numpy(numbers).reshape(self.shape)

    def rows(self, order: NDArray[np.integer]) -> QuantizedTensor:
        """The rows in another order, or some of them."""
        return QuantizedTensor(self.raw[order], self.type, (len(order), *self.shape[1:]))

    def check(self, where: str) -> None:
        """Reject bytes that do not fit the type and shape.

        Raises:
            BackboneError: says what does not fit.
        """
        type_ = self.type
        n_values, n_bytes = block_size(type_)
        expected = prod(self.shape) // n_values * n_bytes
        if not self.shape or self.shape[-1] % n_values or self.raw.size != expected or self.raw.dtype != np.uint8:
            raise BackboneError(
                f"{where} has {self.raw.size:,} bytes for the shape {self.shape} in {type_}, which takes {expected:,}"
            )


@cache
def block_size(type_: str) -> tuple[int, int]:
    """Numbers in a block of a type, and the bytes that they take; `BackboneError` if gguf does not know the type.

    >>> block_size("Q4_1"), block_size("F32")
    ((32, 20), (1, 4))
    """
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    if type_ not in GGMLQuantizationType.__members__:
        raise BackboneError(f"gguf {_version()} does not know the type {type_[:40]!r} of weights; update gguf")
    return GGML_QUANT_SIZES[GGMLQuantizationType[type_]]


def type_name(type_id: int, where: str) -> str:
    """The name of a tensor type by its number in GGUF files.

    Raises:
        BackboneError: `where` has a type that the installed gguf does not know.
    """
    from gguf.constants import GGMLQuantizationType

    try:
        return GGMLQuantizationType(type_id).name
    except ValueError as error:
        raise BackboneError(
            f"{where} has the type {type_id}, which gguf {_version()} does not know; update gguf (pip install "
            "-U gguf), "
            "or give a file with another quantization"
        ) from error


def _version() -> str:
    from importlib.metadata import version

    return version("gguf")
