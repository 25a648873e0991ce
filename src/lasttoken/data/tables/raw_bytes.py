"""The bytes of a file, decompressed where it is a gzip file."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GZIP = b"\x1f\x8b"


def reject_folder(path: Path) -> None:
    """Raise IsADirectoryError for a folder, as POSIX does; Windows raises PermissionError."""
    if path.is_dir():
        raise IsADirectoryError(path)


@contextmanager
def open_bytes(path: Path) -> Iterator[gzip.GzipFile | io.BufferedReader]:
    """The file's bytes, decompressed when its name or its first bytes say gzip."""
    reject_folder(path)
    with path.open("rb") as raw:
        if path.suffix.lower() == ".gz" or raw.peek(2)[:2] == GZIP:
            with gzip.GzipFile(fileobj=raw) as decompressed:
                yield decompressed
        else:
            yield raw
