"""Tensor files in safetensors: read, checked, written.

A file stays where it is, mapped into memory: reading matrices in float32 or 16 bits copies nothing. Files written here
carry a sum of each tensor's bytes in their header, so that a flipped bit is found when they are read; of other files it
is only checked that all numbers are finite. Either takes one pass over the weights, about 0.05 s for GPT-2 small.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lasttoken.backbone.half import as_stored
from lasttoken.core.documents import load_json
from lasttoken.core.errors import BackboneError, LastTokenError, StorageError, short_repr
from lasttoken.core.storage import new_file

MAX_HEADER_BYTES = 8_000_000  # of a safetensors file; gpt2-xl's has 0.07 MB
MAX_TENSORS = 50_000  # in a file; gpt2-xl has 580
PIECE = 2**22  # numbers that are checked at a time
SUMS = "sums"  # metadata of files written here: a JSON object from name to the sum of the tensor's bytes

AGAIN = "fetch, copy or train it again"
CONVERT = (
    "load it once where you trust it with transformers' AutoModelForCausalLM.from_pretrained(folder) "
    "and save_pretrained(folder), which writes model.safetensors"
)


def read_tensor_files(
    folder: Path, not_weights: re.Pattern[str] | None = None, is_needed: Callable[[str], bool] = lambda name: True
) -> dict[str, Tensor]:
    """The tensors of a folder's model.safetensors, or of the shards its index names.

    Only tensors whose names `is_needed` accepts are read. Shards without a needed tensor are not opened, and may be
    absent. Tensors whose names match `not_weights` may hold infinity: masks, for instance.

    Raises:
        BackboneError: a file is missing, corrupt or changed, weights are not finite, or there is only a pickled
            pytorch_model.bin.
    """
    tensors: dict[str, Tensor] = {}
    for path in _tensor_files(folder, is_needed):
        read = read_tensor_file(path, not_weights, is_needed)
        tensors.update({name: as_stored(tensor) for name, tensor in read.items()})
    return tensors


def read_tensor_file(
    path: Path, not_weights: re.Pattern[str] | None = None, is_needed: Callable[[str], bool] = lambda name: True
) -> dict[str, Tensor]:
    """The needed tensors of one safetensors file, in the number formats of the file.

    Raises:
        BackboneError: see `read_tensor_files`.
    """
    try:
        _check_header(path)
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            read = {name: file.get_tensor(name) for name in names if is_needed(name)}
            sums = (file.metadata() or {}).get(SUMS)
    except LastTokenError:
        raise
    except (SafetensorError, OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        size = path.stat().st_size if path.exists() else 0
        raise BackboneError(
            f"{path} ({size:,} bytes) is corrupt or not a safetensors file: {str(error)[:200]}; fetch it again"
        ) from error
    if sums is None:
        check_finite(read, path, not_weights)
    else:
        check_sums(read, sums, path, names_left_out=set(names) - read.keys())
    return read


def _check_header(path: Path) -> None:
    """Reject a header that would take much memory, before it is parsed.

    Raises:
        ValueError: it has too many bytes or tensors.
    """
    with path.open("rb") as file:
        n_bytes = int.from_bytes(file.read(8), "little")
        if n_bytes > MAX_HEADER_BYTES:
            raise ValueError(f"its header has {n_bytes:,} bytes, more than {MAX_HEADER_BYTES:,}")
        n_tensors = file.read(n_bytes).count(b'"data_offsets"')
    if n_tensors > MAX_TENSORS:
        raise ValueError(f"its header names {n_tensors:,} tensors, more than {MAX_TENSORS:,}")


def check_finite(tensors: Mapping[str, Tensor], source: Path, not_weights: re.Pattern[str] | None = None) -> None:
    """Reject weights that are NaN or infinite, because every prediction would be NaN.

    Raises:
        BackboneError: names the tensor.
    """
    for name, tensor in tensors.items():
        if (not_weights and not_weights.search(name)) or not tensor.is_floating_point():
            continue
        if not _is_finite(tensor):
            raise BackboneError(f"{source}: tensor {name[:100]} holds NaN or infinity; fetch or train it again")


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite: one quick pass of sums, and an exact one where a sum is not finite.

    It goes by pieces, because the sum of numbers in 16 bits makes a float32 copy of them.
    """
    pieces = torch.split(tensor.reshape(-1), PIECE)
    return all(bool(piece.sum(dtype=torch.float32).isfinite() or piece.isfinite().all()) for piece in pieces)


def bytes_of(tensor: Tensor) -> NDArray[np.uint8]:
    """The bytes of a tensor on the CPU in the order of its elements, whatever its type; a view where it is possible."""
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy()


def _sum_of_bytes(tensor: Tensor) -> int:
    """The sum of a tensor's bytes as 64-bit integers, modulo 2**64: any single flipped bit changes it."""
    content = bytes_of(tensor)
    whole = len(content) // 8 * 8
    words, rest = content[:whole].view(np.uint64), content[whole:]
    return (int(words.sum(dtype=np.uint64)) + int.from_bytes(rest.tobytes(), "little")) % 2**64


def sums_of(tensors: Mapping[str, Tensor]) -> str:
    """The sum of each tensor's bytes, as the metadata of a file has them; the tensors must be on the CPU."""
    return json.dumps({name: f"{_sum_of_bytes(tensor):x}" for name, tensor in tensors.items()})


def check_sums(tensors: Mapping[str, Tensor], sums: str, path: Path, names_left_out: Set[str] = frozenset()) -> None:
    """Reject tensors that are not the ones that were written; those in `names_left_out` are not checked.

    Raises:
        BackboneError: names the tensor.
    """
    try:
        written = dict(json.loads(sums))
    except (ValueError, TypeError, RecursionError) as error:
        raise BackboneError(f"{path} was changed: the checksums in its header cannot be read; {AGAIN}") from error
    for name in sorted({*tensors, *written} - names_left_out):
        if name not in tensors or written.get(name) != f"{_sum_of_bytes(tensors[name]):x}":
            raise BackboneError(f"{path} was changed: tensor {name[:100]} is not the one that was written; {AGAIN}")


def write_tensor_file(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all, directly from the tensors' memory, without a copy of them.

    Raises:
        StorageError: no permission, or a full disk.
    """
    sums = sums_of(tensors)
    with new_file(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # like other files of this user; the library would make it private
        try:
            save_file(dict(tensors), temporary, metadata={"format": "pt", SUMS: sums})
        except SafetensorError as error:
            raise StorageError(f"{path} cannot be written: {error}; make room, or choose another folder") from error
        _sort_metadata(temporary)
        temporary.chmod(mode)


def _sort_metadata(path: Path) -> None:
    """Sort the metadata of a safetensors file, so that equal tensors give equal bytes.

    The library writes it in the order of a hash table, which differs from run to run.
    """
    with path.open("r+b") as file:
        n_bytes = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(n_bytes))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        content = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8").ljust(n_bytes)
        assert len(content) == n_bytes
        file.seek(8)
        file.write(content)


def _tensor_files(folder: Path, is_needed: Callable[[str], bool]) -> Iterator[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        yield single
    elif index.is_file():
        try:
            shards = load_json(index, BackboneError)["weight_map"].items()
            names = sorted({Path(shard).name for name, shard in shards if is_needed(name)})
        except (BackboneError, KeyError, AttributeError, TypeError) as error:
            raise BackboneError(f"{index} is not an index of shards; fetch it again") from error
        for name in names:
            shard = folder / name
            if not shard.is_file():
                raise BackboneError(
                    f"{index} names the shard {short_repr(name)}, which is not in {folder}; fetch it again"
                )
            yield shard
    elif (folder / "pytorch_model.bin").is_file():
        raise BackboneError(f"{folder} holds only pytorch_model.bin, a pickle, which can run code when read; {CONVERT}")
    else:
        raise BackboneError(f"{folder} holds no model.safetensors and no model.safetensors.index.json")
