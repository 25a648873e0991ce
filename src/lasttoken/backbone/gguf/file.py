"""A GGUF file: its keys, and its tensors as they are stored, mapped into memory.

    "GGUF" | version | counts | key, type, value … | name, dims, type, offset … | padding | tensor, tensor, …

Format: github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3. The `gguf` package knows the tensor types and
dequantizes them. Its own reader makes two arrays for each string: 3.4 s for SmolLM2's vocabulary, which this one
reads in 0.1 s (benchmarks/2026-11-26-gguf.md); and a corrupt file ends it with whatever NumPy raises.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.backbone.quantized import QuantizedTensor, block_size, type_name
from lasttoken.core.errors import BackboneError, short_repr

MAGIC = b"GGUF"
VERSIONS = (2, 3)
BIG_ENDIAN = tuple(version << 24 for version in VERSIONS)  # a version as it reads with the wrong byte order
ALIGNMENT = 32
MAX_DIMENSIONS = 4
MAX_COUNT = 2**20  # keys, or tensors
SCALARS = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 11: "<q", 12: "<d"}
FLOAT32, STRING, ARRAY = 6, 8, 9


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of the file."""

    type: str  # such as F32 or Q4_1
    shape: tuple[int, ...]  # rows first, as NumPy and torch have it
    start: int  # its first byte in the file
    n_bytes: int


class GGUFFile:
    """The keys and tensors of a GGUF file.

    Raises:
        BackboneError: it is missing, truncated, not a GGUF, of a newer version, or has an unknown tensor type.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise BackboneError(f"there is no file {path}; correct the path of the GGUF")
        self.path = path
        with path.open("rb") as file:
            if (magic := file.read(4)) != MAGIC:
                raise BackboneError(f"{path} is not a GGUF file: it begins with {magic!r}, not {MAGIC!r}")
        mapped = np.memmap(path, dtype=np.uint8, mode="c")  # private: nothing is written back
        self._bytes: NDArray[np.uint8] = np.asarray(mapped)  # slicing is twice as fast without the subclass
        cursor = _Cursor(self._bytes.data)
        try:
            self.keys, self.tensors = self._read_header(cursor)
        except (_TruncatedError, UnicodeDecodeError) as error:
            raise BackboneError(
                f"{path} ({len(self._bytes):,} bytes) is truncated or corrupt: {error}; fetch it again"
            ) from error

    def _read_header(self, cursor: _Cursor) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
        cursor.position = len(MAGIC)
        version = cursor.number("<I")
        if version in BIG_ENDIAN:
            raise BackboneError(
                f"{self.path} is a big-endian GGUF; give the little-endian file, which is the usual one"
            )
        if version not in VERSIONS:
            raise BackboneError(
                f"{self.path} is a GGUF of version {version}, and this program reads versions 2 and 3; give a file of "
                "one of them"
            )
        n_tensors, n_keys = (_checked_count(cursor.number("<Q")) for _ in range(2))
        keys = {cursor.string(): cursor.value() for _ in range(n_keys)}
        infos = [_tensor_info(cursor) for _ in range(n_tensors)]
        alignment = keys.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or alignment < 1:
            raise _TruncatedError(f"general.alignment is {short_repr(alignment)}")
        data_start = -(-cursor.position // alignment) * alignment
        return keys, {info[0]: self._stored(*info, data_start) for info in infos}

    def _stored(self, name: str, shape: tuple[int, ...], type_id: int, offset: int, data_start: int) -> StoredTensor:
        type_ = type_name(type_id, f"{self.path}: tensor {name[:100]}")
        n_values, n_bytes = block_size(type_)
        if shape and shape[-1] % n_values:
            raise _TruncatedError(f"tensor {name[:100]} has rows of {shape[-1]} numbers, and blocks of {n_values}")
        stored = StoredTensor(type_, shape, data_start + offset, prod(shape) // n_values * n_bytes)
        if stored.start + stored.n_bytes > len(self._bytes):
            raise _TruncatedError(f"tensor {name[:100]} would end at byte {stored.start + stored.n_bytes:,}")
        return stored

    def blocks(self, name: str) -> QuantizedTensor:
        """A tensor as it is stored, mapped: nothing is read yet. Its rows are rows of bytes.

        Raises:
            BackboneError: the file has no such tensor.
        """
        if name not in self.tensors:
            raise BackboneError(f"{self.path} lacks the tensor {name}; fetch it again, or give another file")
        stored = self.tensors[name]
        n_rows = prod(stored.shape[:-1])
        raw = self._bytes[stored.start : stored.start + stored.n_bytes].reshape(n_rows, -1)
        return QuantizedTensor(raw, stored.type, stored.shape)

    def get(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """The value of a key; `default` if the file does not have it.

        Raises:
            BackboneError: its value is of another type, or the file does not have it and there is no default.
        """
        value = self.keys.get(key, default)
        if value is None:
            raise BackboneError(f"{self.path} lacks the key {key}; fetch it again, or give another file")
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(one.__name__ for one in kinds)
            raise BackboneError(
                f"{self.path} has {key} = {short_repr(value)}, where a value of type {wanted} is needed"
            )
        return value


class _TruncatedError(ValueError):
    """The header names bytes that the file does not have, or cannot be true; GGUFFile makes the sentence."""


class _Cursor:
    """Reads values one after the other from the bytes of a file."""

    def __init__(self, content: memoryview) -> None:
        self._content, self.position = content, 0

    def number(self, form: str) -> Any:
        start = self.take(struct.calcsize(form))
        return struct.unpack_from(form, self._content, start)[0]

    def string(self) -> str:
        n_bytes = self.number("<Q")
        start = self.take(n_bytes)
        return str(self._content[start : start + n_bytes], "utf-8")

    def value(self) -> Any:
        return self._of_type(self.number("<I"))

    def _of_type(self, kind: int) -> Any:
        if kind == FLOAT32:
            return float(str(np.float32(self.number("<f"))))  # 1e-05, as it was written, not 9.999999747378752e-06
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self._array(*(self.number(form) for form in ("<I", "<Q")))
        raise _TruncatedError(f"a key has the unknown type {kind}")

    def _array(self, kind: int, count: int) -> list[str] | NDArray[Any]:
        """Numbers in one piece; strings one by one, with nothing called for each but what makes the string."""
        if kind in SCALARS:
            dtype = np.dtype(SCALARS[kind])
            start = self.take(count * dtype.itemsize)
            return np.frombuffer(self._content, dtype, count, start).copy()
        if kind != STRING:
            raise _TruncatedError(f"a key is an array of the unsupported type {kind}")
        self._check(8 * count)
        content, position, end = self._content, self.position, len(self._content)
        unpack: Callable[..., tuple[int]] = struct.Struct("<Q").unpack_from
        strings = []
        for _ in range(count):
            if position + 8 > end:
                raise _TruncatedError("the file ends within its keys")
            start = position + 8
            position = start + unpack(content, position)[0]
            if position > end:
                raise _TruncatedError("the file ends within its keys")
            strings.append(str(content[start:position], "utf-8"))
        self.position = position
        return strings

    def take(self, n_bytes: int) -> int:
        """Move over bytes that the file must have, and return where they start."""
        self._check(n_bytes)
        start = self.position
        self.position += n_bytes
        return start

    def _check(self, n_bytes: int) -> None:
        if self.position + n_bytes > len(self._content):
            raise _TruncatedError("the file ends within its header")


def _checked_count(count: int) -> int:
    if count > MAX_COUNT:
        raise _TruncatedError(f"its header counts {count:,} keys or tensors")
    return count


def _tensor_info(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape with the rows first, type and offset of a tensor."""
    name, n_dimensions = cursor.string(), cursor.number("<I")
    if n_dimensions > MAX_DIMENSIONS:
        raise _TruncatedError(f"tensor {name[:100]} has {n_dimensions:,} dimensions")
    shape = tuple(cursor.number("<Q") for _ in range(n_dimensions))[::-1]
    if not shape or not all(0 < n < 2**40 for n in shape):
        raise _TruncatedError(f"tensor {name[:100]} has the shape {shape}")
    return name, shape, cursor.number("<I"), cursor.number("<Q")
