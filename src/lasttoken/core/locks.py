"""One process at a time for each output: a lock that is held from the first check to the last byte.

    .path.lock    held while a command works on `path`; the kernel releases it when the process dies

A killed process leaves at most an unlocked lock file; the next process that locks the output removes it, and the
temporary files of that output.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lasttoken.core.errors import RunError, StorageError
from lasttoken.core.storage import LOCK_INSIDE, make_dir, storage_errors, sweep_temporaries

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK_WAIT_S = 0.2  # a process that has just finished may still be removing its lock file
NO_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # errors of network file systems without flock


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of an output while the block runs, against other processes and other threads of this one.

    Symbolic links are followed, so that all paths to a file share a lock. On entry, temporary files that killed
    processes left for this output are removed. Missing parent folders are created, and removed again if they stay
    empty.

    Raises:
        RunError: another process or thread works on the output; nothing has been changed.
        StorageError: no permission, or a read-only or full disk.
    """
    target = Path(os.path.realpath(path))
    absent = [folder for folder in target.parents if not folder.exists()]
    try:
        lock = _locked(target, path)
        try:
            with storage_errors(path):
                sweep_temporaries(target.parent, older_than_s=0.0, of=target.name)
            yield
        finally:
            with suppress(OSError):  # some systems cannot remove an open file
                os.unlink(lock.lock_file)  # before the release; afterwards it could be the lock of another process
            lock.release()
    finally:
        with suppress(OSError):
            for folder in absent:
                folder.rmdir()


def _locked(target: Path, path: Path) -> BaseFileLock:
    """The lock of an output, acquired; `path` is the name of the output in messages."""
    from filelock import FileLock, SoftFileLock, Timeout  # not at the top: it takes a tenth of a second

    make_dir(target.parent)
    inside = target.is_dir() and not os.access(target.parent, os.W_OK)
    file = target / LOCK_INSIDE if inside else target.with_name(f".{target.name}.lock")
    # Mode 666, so that a lock file left by a killed process does not keep other users out.
    lock: BaseFileLock = FileLock(file, LOCK_WAIT_S, mode=0o666, poll_interval=0.02, fallback_to_soft=False)
    try:
        with storage_errors(path):
            try:
                lock.acquire()
            except OSError as error:
                if error.errno not in NO_FLOCK:
                    raise
                file.unlink(missing_ok=True)
                # The existence of this file is the lock, so its name differs from the one that is created for flock.
                lock = SoftFileLock(f"{file}ed", LOCK_WAIT_S, mode=0o666, poll_interval=0.02)
                lock.acquire()
    except Timeout as error:
        _check_creatable(file, path)
        raise RunError(
            f"another process is working on {path}; wait until it has finished, or give another output"
        ) from error
    except OSError as error:
        raise StorageError(f"{path} cannot be locked ({error.strerror or error}); choose another place") from error
    return lock


def _check_creatable(file: Path, path: Path) -> None:
    """Check that files can be created where the lock file `file` belongs.

    filelock waits when the file system does not let it create the file, as in /proc, as if the file were locked.

    Raises:
        StorageError: no file can be created in the folder; `path` is the name of the output in the message.
    """
    probe = file.with_name(f".{secrets.token_hex(4)}.tmp-{os.getpid()}-lock")
    try:
        with storage_errors(path):
            probe.touch(exist_ok=False)
            probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(
            f"cannot write {path}: no file can be created in {file.parent} ({reason}); choose another place"
        ) from error
