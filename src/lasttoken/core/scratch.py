"""Temporary folders that a killed process does not leave behind for good.

$TMPDIR/lasttoken-part-XXXX/    mode 700, removed at the end
    lock                        held while its process lives; the next process removes a folder whose lock is free
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any

from lasttoken.core.errors import StorageError
from lasttoken.core.storage import storage_errors

if sys.platform != "win32":
    import fcntl

PREFIX = "lasttoken-"
LOCK = "lock"
SWEEP_AFTER_S = 60.0  # a folder is left alone for so long: its process may be about to lock it


@contextlib.contextmanager
def scratch_folder(kind: str) -> Iterator[Path]:
    """A new folder that only this user can read, removed at the end; the name begins with lasttoken-`kind`-.

    Raises:
        StorageError: no permission, or a full disk.
    """
    parent = Path(tempfile.gettempdir())
    _sweep_once(parent)
    with storage_errors(parent):
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-"))
    try:
        with storage_errors(folder), (folder / LOCK).open("w") as lock:
            with contextlib.suppress(OSError):  # a file system without locks, where `sweep` cannot hold it either
                _hold(lock)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _sweep_once(parent: Path) -> None:
    """Do it once in a process: a job has thousands of folders, and a temporary folder may have many files."""
    sweep(parent)


def sweep(parent: Path) -> None:
    """Remove this user's folders whose process was killed; not on Windows, where nobody knows which these are."""
    if sys.platform == "win32":
        return
    for lock in parent.glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError, StorageError):
            if time.time() - lock.stat().st_mtime < SWEEP_AFTER_S:
                continue
            with lock.open("r+") as file:
                _hold(file)
                shutil.rmtree(lock.parent, ignore_errors=True)


def _hold(lock: IO[Any]) -> None:
    """Lock the file as long as it is open.

    Raises:
        OSError: a living process holds it.
    """
    if sys.platform != "win32":
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
