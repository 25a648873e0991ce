"""Atomic writes: temporary name, flush to disk, rename. A killed process never leaves half a file.

    path.tmp-<pid>-<random>  ──write, fsync──►  os.replace  ──►  path

A killed process leaves at most a file or folder with `.tmp-` in its name, which nothing ever reads and the next process
that locks the output removes (locks.py). A full disk or a missing permission becomes a StorageError with one sentence.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from lasttoken.core.errors import StorageError

CACHE_VARIABLE = "LASTTOKEN_CACHE"
STALE_AFTER_S = 24 * 3600  # no running process has an older temporary file
TEMPORARY = re.compile(r"\.tmp-\d+-\w+$")  # the end of the name of a file or folder that is being written
LOCK_INSIDE = ".lasttoken.lock"  # used if the parent folder is not writable, such as that of a mounted volume


def cache_dir() -> Path:
    """The cache folder: $LASTTOKEN_CACHE, or the platform's cache folder. It may not exist yet."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override).expanduser() if override else user_cache_path("lasttoken")


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system while writing `path` into a StorageError.

    Raises:
        StorageError: no permission, a read-only or full disk, a quota or the largest size of a file reached, or a name
            that is too long.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"the disk is full: could not write {path}; free some space and run again") from error
        if error.errno == errno.EFBIG:
            raise StorageError(
                f"could not write {path}: it would be larger than files may be here; raise the limit (ulimit -f), or "
                "use another disk"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(
                f"no permission to write {path}; choose another path, or change the permissions"
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR):
            raise StorageError(f"cannot write {path}: a file is where a folder is needed, or the reverse") from error
        if error.errno == errno.ENAMETOOLONG:
            raise StorageError(f"cannot write {path}: the name is too long; choose a shorter one") from error
        raise


def dangling_link(path: Path) -> Path | None:
    """The target of a symbolic link that leads nowhere; None for every other path."""
    return path.readlink() if path.is_symlink() and not path.exists() else None


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


def is_leftover(name: str) -> bool:
    """Whether a name is that of a temporary file or a lock of this program, which can be ignored.

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
        except FileNotFoundError as error:  # a file system without new folders, such as /proc
            raise StorageError(f"the folder {path} cannot be created; choose another place") from error
    return path


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it is renamed to `path` if the block succeeds, and removed otherwise."""
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
    """Replace a file atomically: on an error the old content stays."""
    with new_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Replace a UTF-8 file with `\\n` line ends atomically: on an error the old content stays."""
    write_bytes(path, content.encode("utf-8"))


@contextmanager
def new_dir(path: Path, mode: int = 0o777, first_stays: bool = True) -> Iterator[Path]:
    """A temporary folder to fill; it is renamed to `path` if the block succeeds, and removed otherwise.

    If another process has created `path` in the meantime, its folder stays and this one is removed.

    Raises:
        StorageError: no permission, or a full disk; or `path` exists and `first_stays` is False.
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
    """Remove temporary files of killed processes from `folder`; with `of`, only those of the file of that name.

    With `older_than_s` 0, files of running processes are removed too: lock the output first, see `exclusive`.
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
    """Free bytes on the disk of `path`, which need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def parse_bytes(text: str) -> int:
    """The number of bytes in a size such as 20GB.

    >>> parse_bytes("1500"), parse_bytes("2 GB"), parse_bytes("1.5kb"), parse_bytes("1KiB")
    (1500, 2000000000, 1500, 1024)

    Raises:
        ValueError: not a size.
    """
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(?:([kmgt])(i)?)?b?", text.strip().lower(), re.ASCII)
    if match:
        power = " kmgt".index(match[2] or " ")
        value = float(match[1]) * (1024 if match[3] else 1000) ** power
        if value < 2**63:
            return int(value)
    raise ValueError(f"{text!r} is not a size such as 500MB or 20GB")
