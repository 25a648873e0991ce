"""Files that are whole or absent: temporary name, flush to disk, rename. And where the cache is.

    path.tmp-<pid>-<random>  ──write, fsync──►  os.replace  ──►  path

A process killed at any moment leaves at most a file or folder with `.tmp-` in its name; it is swept away
later, and nothing ever reads it. A full disk or a missing permission becomes one sentence (StorageError).
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

from lasttoken.errors import StorageError

CACHE_VARIABLE = "LASTTOKEN_CACHE"
STALE_AFTER_S = 24 * 3600  # a temporary older than this belongs to no living run


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
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            raise StorageError(f"cannot write {path}: a file is where a folder is needed, or the reverse") from error
        raise


def dangling_link(path: Path) -> Path | None:
    """Where a symbolic link leads when nothing is there; None for all else."""
    return path.readlink() if path.is_symlink() and not path.exists() else None


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


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
def new_dir(path: Path, mode: int = 0o777) -> Iterator[Path]:
    """A temporary folder to fill; it becomes `path` when the block ends well, and is removed otherwise.

    When another process has put `path` there in the meantime, theirs stays and ours is dropped.
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
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def sweep_temporaries(folder: Path, older_than_s: float = STALE_AFTER_S) -> None:
    """Remove what killed processes left in `folder`."""
    limit = time.time() - older_than_s
    for entry in folder.glob("*.tmp-*"):
        try:
            stale = entry.stat().st_mtime < limit
        except FileNotFoundError:
            continue
        if stale and entry.is_dir():
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
