"""A tensor as blocks of few bits, as GGUF files hold it.

    raw [rows, bytes] ──► dequantize ──► float32 [rows, n]        Q4_1: 32 numbers in 20 bytes, Q8_0: 32 in 34

Blocks lie along the rows, so rows can be permuted and cut without being dequantized. The `gguf` package dequantizes;
it is imported where it is needed, because that takes 0.1 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import gcd
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.core.errors import BackboneError

PREFIX = "quantized."  # of stored names
HALF = {"F16": torch.float16, "BF16": torch.bfloat16}
JOINED_ROWS = 8  # gguf dequantizes 16 rows at a time; with longer rows in half the time (2026-11-26-gguf.md)
FLOATS = ("F32", *HALF)  # stored numbers of which none shares its bits with others


@dataclass(frozen=True)
class QuantizedTensor:
    """A matrix or vector in one of GGUF's types."""

    raw: NDArray[np.uint8]  # [rows, bytes in a row]; of a vector [1, bytes]
    type: str  # such as Q4_1
    shape: tuple[int, ...]

    def __deepcopy__(self, memo: dict[int, object]) -> QuantizedTensor:
        return self  # nothing changes it, and a copy would read the mapped file

    @property
    def in_blocks(self) -> bool:
        """Whether the numbers of a block share a scale, so that float32 takes several times the memory."""
        return self.type not in FLOATS

    def dequantize(self) -> Tensor:
        """The numbers, in float32; those of F32 share their memory with `raw`.

        Raises:
            BackboneError: gguf knows the type but cannot dequantize it.
        """
        import gguf
        from gguf.quants import dequantize

        joined = self.raw.reshape(len(self.raw) // gcd(len(self.raw), JOINED_ROWS), -1)
        try:
            numbers = dequantize(joined, gguf.GGMLQuantizationType[self.type])
        except NotImplementedError as error:
            raise BackboneError(
                f"weights of the type {self.type} cannot be dequantized by gguf {_version()}; give a file with another "
                "quantization, such as Q8_0 or Q4_K_M"
            ) from error
        return torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.float32)).reshape(self.shape)

    def as_stored(self) -> Tensor:
        """Matrices of 16 bits as they are, sharing memory with `raw`; anything else in float32."""
        if self.type not in HALF or len(self.shape) < 2:
            return self.dequantize()
        return torch.from_numpy(self.raw).view(HALF[self.type]).reshape(self.shape)

    def rows(self, order: NDArray[np.integer]) -> QuantizedTensor:
        """The rows in another order, or some of them."""
        return QuantizedTensor(self.raw[order], self.type, (len(order), *self.shape[1:]))


def to_stored(quantized: Mapping[str, QuantizedTensor]) -> dict[str, Tensor]:
    """Matrices by parameter name, as tensors of bytes [rows, bytes] whose names say the type.

    h.0.attn.c_attn.weight in Q4_1 is stored as quantized.Q4_1.h.0.attn.c_attn.weight.
    """
    return {f"{PREFIX}{blocks.type}.{name}": torch.from_numpy(blocks.raw) for name, blocks in sorted(quantized.items())}


def from_stored(tensors: Mapping[str, Tensor], source: Path) -> tuple[dict[str, Tensor], dict[str, QuantizedTensor]]:
    """The inverse: the other tensors of a file, and the quantized ones by parameter name.

    Raises:
        BackboneError: a type that gguf does not know, or bytes that are not a matrix of its blocks.
    """
    others, quantized = {}, {}
    for stored, tensor in tensors.items():
        if not stored.startswith(PREFIX):
            others[stored] = tensor
            continue
        type_, _, name = stored.removeprefix(PREFIX).partition(".")
        n_values, n_bytes = block_size(type_)
        if tensor.dim() != 2 or tensor.dtype != torch.uint8 or tensor.shape[1] % n_bytes:
            raise BackboneError(
                f"{source}: tensor {stored[:100]} has the shape {tuple(tensor.shape)} in {tensor.dtype}, and "
                "not rows of "
                f"blocks of {n_bytes} bytes; fetch it again"
            )
        shape = (len(tensor), tensor.shape[1] // n_bytes * n_values)
        quantized[name] = QuantizedTensor(tensor.numpy(), type_, shape)
    return others, quantized


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
