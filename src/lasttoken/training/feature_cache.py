"""The cache of features on disk: entries are written whole, checked when opened, and dropped when room is needed.

    <cache>/features/<key>/    features.bin (float32, [rows, C])    meta.json (format, shape, CRC-32)

The key is a sha256 of all that features depend on. An entry is renamed into place when it is complete, and its bytes
are checked each time a run opens it. Features are float32 whatever the trunk computed in: a 16-bit copy would save
disk space and lose digits that the tail trains on.
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
from io import BufferedReader, FileIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.classifier.encoding import Encoded
from lasttoken.core.device import Device
from lasttoken.core.errors import StorageError
from lasttoken.core.storage import cache_dir, free_bytes, make_dir, new_dir, sweep_temporaries

FORMAT = 2  # of an entry; part of its key
SPARE_BYTES = 500_000_000  # left free on the disk whatever the limit is
LARGEST_DEFAULT_LIMIT = 50_000_000_000  # bytes
CHECKED_BYTES = 1 << 20  # read at a time for a checksum


class FeatureFile:
    """An open entry of the cache, float32 [rows, C]. It stays readable when another process drops the entry.

    It is not memory-mapped: resident memory would grow to the size of the features.
    """

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self.path, self.shape = path, shape
        self._file = path.open("rb")
        self._lock = threading.Lock()  # for the position in the file
        weakref.finalize(self, self._file.close)

    @classmethod
    def opened(cls, path: str, shape: tuple[int, int]) -> FeatureFile | None:
        """An entry that another process has checked; None: this process does not see it."""
        try:
            is_whole = os.stat(path).st_size == shape[0] * shape[1] * 4
            return cls(Path(path), shape) if is_whole else None
        except OSError:
            return None

    def checksum(self) -> int:
        """The CRC-32 of the whole file, read through a small buffer.

        Raises:
            OSError: it cannot be read.
        """
        with self._lock:
            return _checksum(self._file)

    def rows(self, spans: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
        """The rows of each span (first, end), one span after the other.

        Raises:
            StorageError: the file cannot be read, or ends before the rows.
        """
        block = np.empty((sum(end - first for first, end in spans), self.shape[1]), dtype=np.float32)
        n_read = 0
        for first, end in spans:
            piece = block[n_read : n_read + end - first].data
            try:
                with self._lock:
                    self._file.seek(first * self.shape[1] * 4)
                    n_bytes = self._file.readinto(piece)
            except OSError as error:
                raise StorageError(f"{self._file.name} cannot be read: {error}; train again") from error
            if n_bytes != piece.nbytes:
                raise StorageError(f"{self._file.name} was truncated while it was read; train again")
            n_read += end - first
        return block


class FeatureWriter:
    """A file of features that is being filled: `writer(first_row, block)` writes rows, in any order.

    It is not buffered, so that several processes can write their rows into the file.
    """

    def __init__(self, path: Path, width: int, *, new: bool = False) -> None:
        """`width`: numbers in a row. `new`: the file does not exist yet."""
        self.path, self.width = path, width
        self.file = path.open("w+b" if new else "r+b", buffering=0)
        weakref.finalize(self, self.file.close)

    def __call__(self, first_row: int, block: Tensor) -> None:
        """Write the features of some rows.

        Raises:
            OSError: no permission, or the disk is full.
        """
        content = block.contiguous().numpy().data.cast("B")
        self.file.seek(first_row * self.width * 4)
        while len(content):
            content = content[self.file.write(content) :]

    def close(self) -> None:
        """Make sure that the rows are on the disk, and close the file."""
        os.fsync(self.file.fileno())
        self.file.close()


def _checksum(file: BufferedReader | FileIO) -> int:
    file.seek(0)
    buffer, crc = bytearray(CHECKED_BYTES), 0
    while n_bytes := file.readinto(buffer):
        crc = zlib.crc32(memoryview(buffer)[:n_bytes], crc)
    return crc


def entry_key(trunk: str, encoded: Encoded, device: Device) -> str:
    """The name of a split's entry in the cache."""
    digest = hashlib.sha256(trunk.encode())
    facts = [FORMAT, device.torch_device.type, device.precision, torch.__version__]
    digest.update(json.dumps(facts).encode())
    digest.update(np.ascontiguousarray(encoded.lengths).tobytes())
    digest.update(np.ascontiguousarray(encoded.token_ids).tobytes())
    return digest.hexdigest()


class FeatureCache:
    """The folder of entries. The least recently used ones are dropped to keep it below a limit."""

    def __init__(self, limit_bytes: int | None = None, folder: Path | None = None) -> None:
        """`limit_bytes` None: a quarter of what the disk could give, 50 GB at most."""
        self.folder = folder or cache_dir() / "features"
        self._limit = limit_bytes
        self._held: set[str] = set()  # keys of the entries that this run reads

    def _entries(self) -> dict[Path, os.stat_result]:
        entries = {}
        for path in self.folder.glob("*/features.bin"):
            with contextlib.suppress(FileNotFoundError):  # another process dropped it
                if ".tmp-" not in path.parent.name:
                    entries[path] = path.stat()
        return entries

    def limit_bytes(self) -> int:
        """The maximum size of all entries together."""
        if self._limit is not None:
            return self._limit
        used = sum(stat.st_size for stat in self._entries().values())
        return min((free_bytes(self.folder) + used) // 4, LARGEST_DEFAULT_LIMIT)

    def open(
        self, key: str, shape: tuple[int, int], say: Callable[[str], None] = lambda sentence: None
    ) -> FeatureFile | None:
        """The entry, open for reading; None: it is absent or corrupt. A corrupt entry is dropped.

        `say` gets a sentence when the bytes of an entry have changed.
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
            pass  # drop it, like an entry of another shape
        shutil.rmtree(entry, ignore_errors=True)
        return None

    def make_room(self, n_bytes: int, say: Callable[[str], None] = lambda sentence: None) -> str | None:
        """Drop old entries until `n_bytes` more fit the limit and the disk; the reason where they cannot fit."""
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
            others = f", of which this run's other splits take {held:,}" if held else ""
            if self._limit is None:
                return (
                    f"the limit of the cache in {self.folder} is {limit:,} bytes, a quarter of the space on its "
                    f"disk{others}; --cache-limit sets another limit"
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

    def store(self, key: str, shape: tuple[int, int], fill: Callable[[FeatureWriter], None]) -> None:
        """Write an entry. `fill` calls its argument, `put(first_row, block)`, until every row is written.

        Raises:
            StorageError: no permission, or the disk is full.
        """
        make_dir(self.folder, mode=0o700)
        with new_dir(self.folder / key, mode=0o700) as entry:
            writer = FeatureWriter(entry / "features.bin", shape[1], new=True)
            with writer.file:
                fill(writer)
                writer.file.truncate(shape[0] * shape[1] * 4)
                os.fsync(writer.file.fileno())
                meta = {"format": FORMAT, "shape": shape, "crc32": _checksum(writer.file)}
            (entry / "meta.json").write_text(json.dumps(meta), "utf-8")
