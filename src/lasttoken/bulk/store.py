"""Where inputs and outputs are: a local folder, or any store that fsspec reaches (s3://, gs://, az://, memory://).

    Store("s3://bucket/scored/")   .names() ─► one listing   .read("job.json")   .write("part-000000.csv", bytes)

A local file is written under a temporary name and renamed; an object store replaces an object in one request. Either
way a name stands for the whole content or for nothing. Temporary failures are retried with growing waits. An answer
that a retry cannot change (no permission, no such bucket, no driver) becomes one sentence.
"""

from __future__ import annotations

import contextlib
import io
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from lasttoken.core.errors import DataError, SettingsError, StorageError
from lasttoken.core.retries import RetryableError, causes, retried, why
from lasttoken.core.storage import is_leftover, sweep_temporaries, write_bytes

SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
ATTEMPTS = 8  # one call in 20 fails: eight in a row fail once in 25 thousand million calls
BACKOFF_S = 0.1  # 0.1, 0.2, … 6.4 s, up to half more at random, so that workers do not come back all at once
LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
DENIED = re.compile(
    r"access ?denied|forbidden|no permission|authorization|signaturedoesnotmatch|invalidaccesskey", re.I
)
NO_CREDENTIALS = re.compile(
    r"unable to locate credentials|no credentials|anonymous caller|must provide.*credential", re.I
)
WRONG_REGION = re.compile(r"region|301", re.I)
NO_BUCKET = re.compile(r"no ?such ?bucket|bucket does not exist|container ?not ?found|specified bucket", re.I)

T = TypeVar("T")


def is_url(place: str) -> bool:
    """Whether a place is a URL and not a local path; file:// counts as local.

    >>> is_url("s3://bucket/in.csv"), is_url("in.csv"), is_url("file:///tmp/in.csv")
    (True, False, False)
    """
    match = SCHEME.match(place)
    return match is not None and match[1].lower() not in ("file", "local")


def local_path(place: str) -> Path:
    """The path of a local place."""
    return Path(re.sub(r"^(file|local)://", "", place))


def file_system(place: str) -> tuple[Any, str]:
    """The fsspec file system of a URL or a path, and the path in it.

    Raises:
        SettingsError: an unknown scheme, an incomplete URL, or a driver that is not installed.
        StorageError: a driver that cannot be started, or reaches no server.
    """
    import fsspec

    match = SCHEME.match(place)
    try:
        fs, path = fsspec.core.url_to_fs(place if match else str(Path(place).absolute()))
    except ImportError as error:
        scheme = match[1].lower() if match else "file"
        extra = EXTRAS.get(scheme)
        advice = f"pip install '.[{extra}]' in lasttoken's folder" if extra else f"install its driver ({why(error)})"
        raise SettingsError(f"{place} needs a driver for {scheme}://, which is not installed; {advice}") from error
    except (ValueError, TypeError) as error:  # TypeError: a part of the URL is missing
        raise SettingsError(
            f"{place} cannot be opened ({why(error)}); use a path, or a URL such as s3://bucket/name"
        ) from error
    except Exception as error:  # of the driver, which may load a library or connect
        raise StorageError(
            f"{place} cannot be opened ({why(error)}); check that its driver works and that its server answers"
        ) from error
    return fs, str(path)


def check_shared(*places: str) -> None:
    """Reject places that other processes do not see.

    Raises:
        SettingsError: memory:// is the memory of one process.
    """
    for place in places:
        if place.lower().startswith("memory://"):
            raise SettingsError(
                f"{place} is in the memory of this process, where workers cannot read or write; give a path or a URL"
            )


def attempted(place: str, call: Callable[[], T], *, writes: bool = False) -> T:
    """The result of a call to a store, retried after temporary failures.

    Raises:
        FileNotFoundError: there is no such object.
        StorageError: no permission or credentials, another region, no such bucket, or a store that keeps failing.
    """

    def attempt() -> T:
        try:
            return call()
        except LASTING:
            raise
        except Exception as error:
            if sentence := _lasting_fault(place, error, writes):
                raise StorageError(sentence) from error
            if not _is_of_a_store(error):
                raise
            raise RetryableError(why(error), random.uniform(0, BACKOFF_S / 2)) from error

    try:
        return retried(attempt, BACKOFF_S, ATTEMPTS)
    except RetryableError as error:
        raise StorageError(
            f"{place} failed {ATTEMPTS} times in a row ({error}); finished parts stay finished: run the command again"
        ) from error
    except FileNotFoundError as error:
        if sentence := _lasting_fault(place, error, writes):
            raise StorageError(sentence) from error
        raise
    except (PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        verb = "write" if writes else "read"
        if isinstance(error, PermissionError):
            sentence = (
                f"no permission to {verb} {place}; change the permissions or the credentials, or use another place"
            )
        else:
            sentence = f"cannot {verb} {place}: a file is where a folder is needed, or the reverse"
        raise StorageError(sentence) from error


def _is_of_a_store(error: Exception) -> bool:
    """Whether an error comes from a store or the network, and not from a fault of a program."""
    drivers = ("botocore", "aiobotocore", "s3fs", "gcsfs", "google", "azure", "adlfs", "aiohttp", "fsspec", "requests")
    modules = {type(cause).__module__.split(".")[0] for cause in causes(error)}
    return isinstance(error, (OSError, TimeoutError)) or bool(modules & set(drivers))


def _lasting_fault(place: str, error: Exception, writes: bool) -> str | None:
    """The sentence about an error that a retry cannot change; None for any other."""
    if not is_url(place):
        return None
    said = " ".join(f"{type(cause).__name__} {cause}" for cause in causes(error))
    verb = "write" if writes else "read"
    bucket = place.split("://")[1].split("/")[0]
    if NO_BUCKET.search(said):
        return f"there is no bucket {bucket!r} ({place}); create it, or check its name"
    if NO_CREDENTIALS.search(said):
        return f"there are no credentials for {place} ({why(error)}); set those of your provider and run again"
    if WRONG_REGION.search(said):
        return f"bucket {bucket!r} is in another region than the one that is set ({why(error)}); set its region"
    if DENIED.search(said):
        return f"no permission to {verb} {place} ({why(error)}); ask for access to bucket {bucket!r}, or use another"
    return None


# Outputs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listed:
    """A file of a store, as a listing shows it."""

    size: int
    written_at: float  # seconds since 1970; 0.0 where the store does not say


@dataclass(frozen=True)
class Store:
    """A folder of files, local or remote. It is a small value that can be sent to another process."""

    url: str

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine's file system."""
        return not is_url(self.url)

    @property
    def folder(self) -> Path:
        """The folder of a local store."""
        return local_path(self.url)

    def place(self, name: str) -> str:
        """The URL or the path of a file, for messages too."""
        return f"{self.url.rstrip('/')}/{name}"

    def names(self) -> dict[str, Listed]:
        """The files, by their names; one listing, and none if the folder does not exist.

        Raises:
            StorageError: see `attempted`.
        """
        fs, path = file_system(self.url)

        def list_it() -> list[dict[str, Any]]:
            fs.invalidate_cache()
            try:
                return list(fs.ls(path, detail=True))
            except FileNotFoundError:
                return []

        entries = attempted(self.url, list_it)
        return {
            name: Listed(int(entry.get("size") or 0), timestamp(entry))
            for entry in entries
            if entry.get("type") != "directory" and not is_leftover(name := entry["name"].rsplit("/", 1)[-1])
        }

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: there is none.
            StorageError: see `attempted`.
        """
        fs, path = file_system(self.place(name))
        content: bytes = attempted(self.place(name), lambda: fs.cat_file(path))
        return content

    def write(self, name: str, content: bytes) -> None:
        """Replace a file, whole or not at all.

        Raises:
            StorageError: see `attempted`; or the disk is full.
        """
        if self.is_local:
            for n_left in reversed(range(ATTEMPTS)):
                try:
                    write_bytes(self.folder / name, content)
                    return
                except FileNotFoundError:  # `sweep` of a process that finished the job meanwhile
                    if not n_left:
                        raise
        fs, path = file_system(self.place(name))
        attempted(self.place(name), lambda: fs.pipe_file(path, content), writes=True)

    def write_file(self, name: str, path: Path) -> None:
        """Replace a file by the content of a local one, which may be large."""
        fs, there = file_system(self.place(name))
        attempted(self.place(name), lambda: fs.put_file(str(path), there), writes=True)

    def sweep(self) -> None:
        """Remove the temporary files that killed processes left in a local folder."""
        if self.is_local:
            sweep_temporaries(self.folder, older_than_s=0.0)

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""
        fs, path = file_system(self.place(name))

        def remove_it() -> None:
            with contextlib.suppress(FileNotFoundError):
                fs.rm_file(path)

        attempted(self.place(name), remove_it, writes=True)


def timestamp(entry: dict[str, Any]) -> float:
    """When a file was last written, in seconds since 1970; 0.0 where its listing does not say."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "created", "creation_time"):
        value: Any = entry.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    return 0.0


# Inputs -----------------------------------------------------------------------------------------------------------


class RangeFile(io.RawIOBase):
    """A file of a store that is read by ranges, each retried on its own."""

    def __init__(self, url: str, size: int) -> None:
        super().__init__()
        self._url, self._size, self._position = url, size, 0
        self._fs, self._path = file_system(url)

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position; see `io.IOBase`."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; see `io.RawIOBase`."""
        end = min(self._size, self._position + len(buffer))
        content = self.range(self._position, end)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def range(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`, which may be beyond the file.

        Raises:
            DataError: the file has been removed.
            StorageError: see `attempted`.
        """
        end = min(end, self._size)
        if start >= end:
            return b""
        try:
            content: bytes = attempted(self._url, lambda: self._fs.cat_file(self._path, start, end))
        except FileNotFoundError as error:
            raise DataError(f"there is no file {self._url}; was it removed while it was read?") from error
        if len(content) != end - start:
            raise DataError(
                f"{self._url} gave {len(content):,} bytes for a range of {end - start:,}; it changed while it was "
                "read: run the command again"
            )
        return content
