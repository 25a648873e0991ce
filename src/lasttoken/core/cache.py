"""The contents of the cache folder: how much of each kind there is, and deleting it.

<cache>/features    the trunk's output for the texts of a split
<cache>/datasets    downloaded data sets
<cache>/weights     backbones from the package index
<cache>/logs        logs of internal errors
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lasttoken.core.storage import cache_dir, storage_errors, sweep_temporaries

# kind of content → folder in the cache
FOLDERS = {"features": "features", "downloads": "datasets", "weights": "weights", "logs": "logs"}


@dataclass(frozen=True)
class Usage:
    """How much there is of one kind of content."""

    n_bytes: int
    n_files: int


def usage(kind: str) -> Usage:
    """The size of one kind of content, a key of `FOLDERS`."""
    sizes = list(_sizes(cache_dir() / FOLDERS[kind]))
    return Usage(sum(sizes), len(sizes))


def clear(kinds: Iterable[str]) -> int:
    """Delete the content of these kinds, keys of `FOLDERS`; returns the number of bytes.

    What a running command is writing stays, unless it is older than a day.

    Raises:
        StorageError: no permission.
    """
    n_bytes = 0
    for kind in kinds:
        n_bytes += usage(kind).n_bytes
        folder = cache_dir() / FOLDERS[kind]
        with storage_errors(folder):
            for entry in list(folder.iterdir()) if folder.is_dir() else []:
                if ".tmp-" in entry.name:
                    continue  # a running command is writing it
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink(missing_ok=True)
        sweep_temporaries(folder)
    return n_bytes


def _sizes(folder: Path) -> Iterator[int]:
    """The sizes of the files below a folder, in bytes."""
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                yield path.stat().st_size
        except OSError:  # another process has just removed it
            continue
