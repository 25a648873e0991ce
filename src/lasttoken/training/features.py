"""What the frozen trunk gives for each text, computed once and kept.

    split ──► key = sha256(token ids, trunk tensors, …) ──► in the cache?  ── yes ─► read batch by batch
                                                                │ no
                                                                └─► trunk, by length, to a token budget ─► cache

An entry is a folder `<cache>/features/<key>/` of `features.bin` (float32, [rows, C]) and `meta.json` with its checksum;
it is renamed into place when whole, and its bytes are checked each time a run opens it. Features are stored in float32
whatever the trunk computed in: a 16-bit copy would save disk and cost digits that the tail trains on. What does not fit
the limit or the disk is not kept: then the trunk runs again for every batch, with the same result to rounding.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import weakref
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.backbone.packing import Packing
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.encoding import Encoded, run_by_length
from lasttoken.core.device import CPU, Device, memory_bytes
from lasttoken.core.errors import StorageError
from lasttoken.core.storage import cache_dir, free_bytes, make_dir, new_dir, sweep_temporaries

FORMAT = 2  # of an entry; part of its key
SPARE_BYTES = 500_000_000  # left free on the disk whatever the limit says
LARGEST_DEFAULT_LIMIT = 50_000_000_000
CHECKED_BYTES = 1 << 20  # read at a time for a checksum
MEMORY_PART = 0.5  # of the machine's memory, for features that are kept in memory

Progress = Callable[[int], None]  # told of tokens done


class FeatureSource(Protocol):
    """Where the loop gets a split's features from."""

    @property
    def encoded(self) -> Encoded:
        """The split's token ids."""

    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Packing]:
        """The features of some rows, packed in that order, and where each lies."""


class FeatureFile:
    """An entry of the cache, float32 [rows, C], read when asked for; also when another process has dropped it.

    Not memory-mapped, for then resident memory would grow to the size of the features.
    """

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._file = path.open("rb")
        self._reading = threading.Lock()  # of the file's position
        weakref.finalize(self, self._file.close)

    def checksum(self) -> int:
        """The CRC-32 of the whole file, read through a small buffer.

        Raises:
            OSError: it cannot be read.
        """
        with self._reading:
            return _checksum(self._file)

    def rows(self, spans: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
        """The rows of each span (first, end), one span after the other.

        Raises:
            StorageError: the file ends before them.
        """
        block = np.empty((sum(end - first for first, end in spans), self.shape[1]), dtype=np.float32)
        at = 0
        for first, end in spans:
            piece = block[at : at + end - first].data
            try:
                with self._reading:
                    self._file.seek(first * self.shape[1] * 4)
                    n_bytes = self._file.readinto(piece)
            except OSError as error:
                raise StorageError(f"{self._file.name} cannot be read: {error}; train again") from error
            if n_bytes != piece.nbytes:
                raise StorageError(f"{self._file.name} was cut short while it was read; train again")
            at += end - first
        return block


def _checksum(file: BufferedReader | BufferedRandom) -> int:
    file.seek(0)
    buffer, crc = bytearray(CHECKED_BYTES), 0
    while n_bytes := file.readinto(buffer):
        crc = zlib.crc32(memoryview(buffer)[:n_bytes], crc)
    return crc


@dataclass(frozen=True)
class StoredFeatures:
    """Features that are kept: [n_tokens, C] or [N, C], in memory or in the cache."""

    encoded: Encoded
    array: NDArray[np.float32] | FeatureFile
    keeps_tokens: bool
    device: torch.device

    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Packing]:
        """See FeatureSource."""
        packing = Packing(self.encoded.lengths[list(rows)].tolist(), self.device)
        if isinstance(self.array, FeatureFile):
            block = self.array.rows(self._spans(rows))
        elif self.keeps_tokens:
            block = np.concatenate([self.array[first:end] for first, end in self._spans(rows)])
        else:
            block = self.array[list(rows)]
        return torch.from_numpy(block).to(self.device), packing

    def _spans(self, rows: Sequence[int]) -> list[tuple[int, int]]:
        """Where the features of each text start and end."""
        if not self.keeps_tokens:
            return [(row, row + 1) for row in rows]
        offsets = self.encoded.offsets
        return [(int(offsets[row]), int(offsets[row + 1])) for row in rows]


@dataclass(frozen=True)
class LiveFeatures:
    """Features that are computed whenever they are asked for."""

    encoded: Encoded
    classifier: Classifier
    device: Device

    @torch.no_grad()
    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Packing]:
        """See FeatureSource."""
        token_ids, packing = self.encoded.pack(np.asarray(rows, dtype=np.int64), self.device.torch_device)
        with self.device.autocast():
            features = self.classifier.trunk(token_ids, packing)
        return (features.float() if features.dtype == torch.bfloat16 else features), packing


def trunk_hash(classifier: Classifier) -> str:
    """A hash of everything that features depend on, apart from the texts and the machine.

    That is the trunk's tensors, its number of blocks, the causal mask, the pooling if the trunk includes it, and what
    changes the computation without being a tensor (`Decoder.fingerprint`).
    """
    config = classifier.config
    digest = hashlib.sha256()
    reading = config.read if not classifier.keeps_tokens else ""
    facts = [classifier.n_frozen, config.causal_mask, reading, classifier.decoder.fingerprint()]
    if config.int8_trunk:
        facts.append("int8")
    digest.update(json.dumps(facts).encode())
    for name, tensor in sorted(classifier.trunk_tensors().items()):
        as_it_lies = tensor.detach().cpu() if tensor.is_contiguous() else tensor.detach().cpu().t()
        array = as_it_lies.contiguous().numpy()
        digest.update(f"{name}{array.dtype}{array.shape}{tensor.is_contiguous()}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def entry_key(trunk: str, encoded: Encoded, device: Device) -> str:
    """The name of a split's entry in the cache."""
    digest = hashlib.sha256(trunk.encode())
    facts = [FORMAT, device.torch_device.type, device.precision, torch.__version__]
    digest.update(json.dumps(facts).encode())
    digest.update(np.ascontiguousarray(encoded.lengths).tobytes())
    digest.update(np.ascontiguousarray(encoded.token_ids).tobytes())
    return digest.hexdigest()


class FeatureCache:
    """The folder of entries, held under a limit by dropping the ones used longest ago."""

    def __init__(self, limit_bytes: int | None = None, folder: Path | None = None) -> None:
        """`limit_bytes` None: a quarter of what the disk could give, 50 GB at most."""
        self.folder = folder or cache_dir() / "features"
        self._limit = limit_bytes
        self._held: set[str] = set()

    def _entries(self) -> dict[Path, os.stat_result]:
        found = {}
        for path in self.folder.glob("*/features.bin"):
            with contextlib.suppress(FileNotFoundError):  # another process has just dropped it
                if ".tmp-" not in path.parent.name:
                    found[path] = path.stat()
        return found

    def limit_bytes(self) -> int:
        """The most that entries may fill together."""
        if self._limit is not None:
            return self._limit
        used = sum(stat.st_size for stat in self._entries().values())
        return min((free_bytes(self.folder) + used) // 4, LARGEST_DEFAULT_LIMIT)

    def open(
        self, key: str, shape: tuple[int, int], say: Callable[[str], None] = lambda sentence: None
    ) -> FeatureFile | None:
        """The entry, open for reading, or None where it is absent or not what was written: then it is dropped.

        `say` is told when its bytes have changed.
        """
        entry = self.folder / key
        path = entry / "features.bin"
        try:
            meta = json.loads((entry / "meta.json").read_text("utf-8"))
            if meta["shape"] == list(shape) and path.stat().st_size == shape[0] * shape[1] * 4:
                array = FeatureFile(path, shape)
                if array.checksum() == meta["crc32"]:
                    os.utime(path)
                    self._held.add(key)
                    return array
                say(f"the cached features in {entry} have changed since they were written: they are computed again")
        except (OSError, ValueError, KeyError, TypeError):
            pass  # the same as an entry of another shape
        shutil.rmtree(entry, ignore_errors=True)
        return None

    def make_room(self, n_bytes: int, say: Callable[[str], None] = lambda sentence: None) -> str | None:
        """Drop old entries until `n_bytes` more fit the limit and the disk, and say so; or why they cannot fit."""
        make_dir(self.folder, mode=0o700)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            return f"no permission to write {self.folder}; LASTTOKEN_CACHE names another folder"
        sweep_temporaries(self.folder)
        limit = self.limit_bytes()
        entries = sorted(self._entries().items(), key=lambda item: item[1].st_mtime)
        used = sum(stat.st_size for _, stat in entries)
        held = sum(stat.st_size for path, stat in entries if path.parent.name in self._held)
        droppable = used - held
        if held + n_bytes > limit:
            others = f", of which this run's other splits fill {held:,}" if held else ""
            if self._limit is None:
                return (
                    f"the cache in {self.folder} may fill {limit:,} bytes, a quarter of what its disk could "
                    f"give{others}; --cache-limit sets another limit"
                )
            return f"--cache-limit is {limit:,} bytes{others}"
        if free_bytes(self.folder) + droppable < n_bytes + SPARE_BYTES:
            return f"the disk of {self.folder} has {free_bytes(self.folder):,} bytes free"
        n_dropped = dropped_bytes = 0
        for path, stat in entries:
            if used + n_bytes <= limit and free_bytes(self.folder) >= n_bytes + SPARE_BYTES:
                break
            if path.parent.name not in self._held:
                shutil.rmtree(path.parent, ignore_errors=True)
                used -= stat.st_size
                n_dropped, dropped_bytes = n_dropped + 1, dropped_bytes + stat.st_size
        if n_dropped:
            which = f"{n_dropped:,} splits, {dropped_bytes:,} bytes"
            say(f"cached features of earlier runs ({which}) were dropped to make room")
        return None

    def store(self, key: str, shape: tuple[int, int], fill: Callable[[Callable[[int, Tensor], None]], None]) -> None:
        """Write an entry; `fill` is given `put(first_row, block)` and calls it until every row is there.

        Raises:
            StorageError: no permission, or the disk filled up after all.
        """
        make_dir(self.folder, mode=0o700)
        with new_dir(self.folder / key, mode=0o700) as entry:
            with (entry / "features.bin").open("w+b") as file:

                def put(first_row: int, block: Tensor) -> None:
                    file.seek(first_row * shape[1] * 4)
                    file.write(block.contiguous().numpy().data)

                fill(put)
                file.truncate(shape[0] * shape[1] * 4)
                file.flush()
                os.fsync(file.fileno())
                meta = {"format": FORMAT, "shape": shape, "crc32": _checksum(file)}
            (entry / "meta.json").write_text(json.dumps(meta), "utf-8")


def compute_features(
    classifier: Classifier,
    encoded: Encoded,
    device: Device,
    put: Callable[[int, Tensor], None],
    progress: Progress | None = None,
) -> None:
    """Run the trunk over a split, packed by length; each text's features go to `put` at their row."""
    live, offsets = LiveFeatures(encoded, classifier, device), encoded.offsets
    if device == CPU:
        classifier.pack_trunk()
    for rows, (block, packing) in run_by_length(lambda rows: live.batch(rows.tolist()), encoded.lengths, device):
        block = block.cpu()
        pieces = torch.split(block, packing.sizes if classifier.keeps_tokens else 1)
        for row, piece in zip(rows, pieces, strict=True):
            put(int(offsets[row] if classifier.keeps_tokens else row), piece)
        if progress:
            progress(packing.n_tokens)


class TrunkPass:
    """Makes the feature sources of a run: from the cache, computed into it, or live."""

    def __init__(
        self, classifier: Classifier, device: Device, *, cache: FeatureCache | None, say: Callable[[str], None]
    ) -> None:
        """`cache` None: features stay in memory for this run. `say` is told what could not be kept, and why."""
        self.classifier, self.device, self.cache, self.say = classifier, device, cache, say
        self.hash = trunk_hash(classifier) if classifier.n_frozen is not None else None

    def source(self, encoded: Encoded, split: str, progress: Progress | None = None) -> FeatureSource:
        """The features of one split."""
        live = LiveFeatures(encoded, self.classifier, self.device)
        if self.hash is None:
            return live
        n_rows = encoded.n_tokens if self.classifier.keeps_tokens else len(encoded)
        shape = (n_rows, self.classifier.decoder.config.n_embd)
        array = (
            self._in_memory(encoded, shape, split, progress)
            if self.cache is None
            else self._cached(encoded, shape, split, progress)
        )
        if array is None:
            if self.device == CPU:
                self.classifier.pack_trunk()
            return live
        return StoredFeatures(encoded, array, self.classifier.keeps_tokens, self.device.torch_device)

    def _in_memory(
        self, encoded: Encoded, shape: tuple[int, int], split: str, progress: Progress | None
    ) -> NDArray[np.float32] | None:
        n_bytes = shape[0] * shape[1] * 4
        if n_bytes > memory_bytes() * MEMORY_PART:
            self.say(
                f"the features of {split} ({n_bytes:,} bytes) do not fit in memory: the trunk runs for every "
                "batch, which is slower"
            )
            return None
        is_double = self.classifier.head.weight.dtype == torch.float64
        array = np.empty(shape, dtype=np.float64 if is_double else np.float32)

        def put(first_row: int, block: Tensor) -> None:
            array[first_row : first_row + len(block)] = block.numpy()

        compute_features(self.classifier, encoded, self.device, put, progress)
        return array

    def _cached(
        self, encoded: Encoded, shape: tuple[int, int], split: str, progress: Progress | None
    ) -> FeatureFile | None:
        assert self.cache is not None
        assert self.hash is not None
        key = entry_key(self.hash, encoded, self.device)
        found = self.cache.open(key, shape, self.say)
        if found is not None:
            if progress:
                progress(encoded.n_tokens)
            return found
        n_bytes = shape[0] * shape[1] * 4
        kept_out = f"the features of {split} ({n_bytes:,} bytes) are not kept"
        consequence = "the trunk runs for every batch, which is slower and gives the same result to rounding"
        try:
            if reason := self.cache.make_room(n_bytes, self.say):
                self.say(f"{kept_out}: {reason}; {consequence}")
                return None
            self.cache.store(
                key, shape, lambda put: compute_features(self.classifier, encoded, self.device, put, progress)
            )
        except (StorageError, OSError) as error:  # a disk that fails may cost time, not the training
            self.say(f"{kept_out}: {error}; {consequence}")
            return None
        return self.cache.open(key, shape, self.say)
