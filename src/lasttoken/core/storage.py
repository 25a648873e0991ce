"""Files that are whole or absent: temporary name, flush to disk, rename. One process at a time for each output.

    path.tmp-<pid>-<random>  ──write, fsync──►  os.replace  ──►  path
    .path.lock               held while a command works on `path`; the kernel releases it when the process dies

A process killed at any moment leaves at most a file or folder with `.tmp-` in its name, which nothing ever reads, and
an unlocked lock file; whoever locks that output next removes both. A full disk or a missing permission becomes one
sentence (StorageError).
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from lasttoken.core.errors import RunError, StorageError

if TYPE_CHECKING:
    from filelock import BaseFileLock

CACHE_VARIABLE = "LASTTOKEN_CACHE"
STALE_AFTER_S = 24 * 3600  # a temporary older than this belongs to no living run
TEMPORARY = re.compile(r"\.tmp-\d+-\w+$")  # what ends the name of a file or folder that is being written
LOCK_WAIT_S = 0.2  # a process that has just finished may still be removing its lock file
LOCK_INSIDE = ".lasttoken.lock"  # in a folder whose parent cannot be written, such as a mounted volume
NO_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # of some network file systems


def cache_dir() -> Path:
    """The cache: $LASTTOKEN_CACHE, or the platform's place for caches. Not created here."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override).expanduser() if override else user_cache_path("lasttoken")


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write at `path` into one sentence.

    Raises:
        StorageError: no permission, a read-only or full disk, or a quota reached.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"the disk is full: could not write {path}; free some space and run again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(f"no permission to write {path}; choose another place or change its mode") from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR):
            raise StorageError(f"cannot write {path}: a file is where a folder is needed, or the reverse") from error
        raise


def dangling_link(path: Path) -> Path | None:
    """Where a symbolic link leads when nothing is there; None for all else."""
    return path.readlink() if path.is_symlink() and not path.exists() else None


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Keep other processes and threads of this program away from an output while the block runs.

    All spellings of a path are one output: symbolic links are followed. On entry, what killed processes have left half
    written in its place is removed. Missing parent folders are made, and removed again where they stay empty.

    Raises:
        RunError: another process or thread works on the output; nothing has been touched.
        StorageError: no permission to write there, a read-only or full disk.
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
            with suppress(OSError):  # another system than Linux may not remove a file that is open
                os.unlink(lock.lock_file)  # before the release, so that nobody else's lock is removed
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
    # Every user may open it: the lock file of a killed process must not shut out the others.
    lock: BaseFileLock = FileLock(file, LOCK_WAIT_S, mode=0o666, poll_interval=0.02, fallback_to_soft=False)
    try:
        with storage_errors(path):
            try:
                lock.acquire()
            except OSError as error:
                if error.errno not in NO_FLOCK:
                    raise
                file.unlink(missing_ok=True)
                # Its existence is the lock, so under another name than the one that others create to try flock.
                lock = SoftFileLock(f"{file}ed", LOCK_WAIT_S, mode=0o666, poll_interval=0.02)
                lock.acquire()
    except Timeout as error:
        raise RunError(
            f"another process is working on {path}; wait until it has finished, or give another output"
        ) from error
    except OSError as error:
        raise StorageError(f"{path} cannot be locked ({error.strerror or error}); choose another place") from error
    return lock


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is this program's own, and safe to ignore: a temporary, or a lock.

    >>> is_leftover("run.toml.tmp-12-ab34"), is_leftover("model.tmp-backup"), is_leftover(".lasttoken.lock")
    (True, False, True)
    """
    return TEMPORARY.search(name) is not None or name.startswith(LOCK_INSIDE)


def make_dir(path: Path, mode: int = 0o777) -> Path:
    """Create a folder and its parents; `mode` is for the folder itself (the umask applies)."""
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=mode, exist_ok=True)
        except FileNotFoundError as error:  # a file system that takes no folders, such as /proc
            raise StorageError(f"the folder {path} cannot be made; choose another place") from error
    return path


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it becomes `path` when the block ends well, and is removed otherwise."""
    make_dir(path.parent)
    temporary = _temporary(path)
    with storage_errors(path):
        try:
            yield temporary
            with temporary.open("r+b") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file, or leave what was there."""
    with new_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a whole UTF-8 file with `\\n` line ends, or leave what was there."""
    write_bytes(path, content.encode("utf-8"))


@contextmanager
def new_dir(path: Path, mode: int = 0o777, first_stays: bool = True) -> Iterator[Path]:
    """A temporary folder to fill; it becomes `path` when the block ends well, and is removed otherwise.

    When another process has put `path` there in the meantime, theirs stays: ours is dropped, silently if `first_stays`.

    Raises:
        StorageError: no permission, a full disk; or, unless `first_stays`, `path` is there.
    """
    make_dir(path.parent)
    temporary = _temporary(path)
    with storage_errors(path):
        try:
            temporary.mkdir(mode=mode)
            yield temporary
            try:
                os.rename(temporary, path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not first_stays:
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def sweep_temporaries(folder: Path, older_than_s: float = STALE_AFTER_S, of: str | None = None) -> None:
    """Remove what killed processes left in `folder`; with `of`, only what was to become the file of that name.

    `older_than_s` 0 takes those of living processes too: hold the output (`exclusive`) before.
    """
    limit = time.time() - older_than_s
    for entry in folder.glob("*.tmp-*"):
        if not TEMPORARY.search(entry.name) or (of is not None and TEMPORARY.sub("", entry.name) != of):
            continue
        try:
            stale = entry.lstat().st_mtime < limit
        except FileNotFoundError:
            continue
        if stale and entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif stale:
            entry.unlink(missing_ok=True)


def free_bytes(path: Path) -> int:
    """Free space on the disk that holds `path`, which need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def parse_bytes(text: str) -> int:
    """A size as people write it.

    >>> parse_bytes("1500"), parse_bytes("2 GB"), parse_bytes("1.5kb"), parse_bytes("1KiB")
    (1500, 2000000000, 1500, 1024)

    Raises:
        ValueError: not a size.
    """
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(?:([kmgt])(i)?)?b?", text.strip().lower(), re.ASCII)
    if found:
        power = " kmgt".index(found[2] or " ")
        value = float(found[1]) * (1024 if found[3] else 1000) ** power
        if value < 2**63:
            return int(value)
    raise ValueError(f"{text!r} is not a size such as 500MB or 20GB")
