"""Data sets by name: a zip is downloaded, one member of it is checked and put in the cache.

    fetch_dataset("sms-spam")   zip ──limit──► unnamed file ──one member, limit, sha256──► <cache>/datasets/sms-spam/…

A file gets its name in the cache only when it is whole, so whatever has a name there is used without asking the
network again. `requests` is imported where it is used.
"""

from __future__ import annotations

import hashlib
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

from lasttoken.core.errors import DataError, NetworkError, StorageError, one_of
from lasttoken.core.retries import BACKOFF_S, TIMEOUT_S, RetryableError, refusal, retried, why
from lasttoken.core.storage import cache_dir, make_dir, new_file, storage_errors, sweep_temporaries
from lasttoken.data.catalog import DatasetEntry, find_dataset

if TYPE_CHECKING:
    import requests

Progress = Callable[[int, int | None], None]  # (bytes so far, bytes in all or None); starts over when tried again

CHUNK_BYTES = 64 * 1024
ARCHIVE_SLACK_BYTES = 1_000_000  # a zip may hold a readme beside the member, and is not known by its size


def fetch_dataset(
    name: str,
    *,
    offline: bool = False,
    progress: Progress | None = None,
    url: str | None = None,
    timeout_s: float = TIMEOUT_S,
    backoff_s: float = BACKOFF_S,
) -> Path:
    """The path of a data set's file, fetched first where the cache does not hold it.

    A file that was put there by hand is as good, when it is the published one. `url` replaces the catalog's
    address (a mirror); what arrives is checked all the same.

    Raises:
        DataError: no such data set, or the file in the cache is another one than was published.
        NetworkError: offline, unreachable, too slow, cut, or not what was published; says where to put it by hand.
        StorageError: no permission to read or write the cache, or a full disk.
    """
    entry = find_dataset(name)
    source = url or entry.url
    target = cache_dir() / "datasets" / entry.name / entry.member
    by_hand = f"download {source} by hand and put the file {entry.member!r} that is in it at {target}"
    if _is_there(target, entry):
        return target
    if offline:
        raise NetworkError(f"{name} is not in the cache, and nothing is fetched when offline; {by_hand}")
    sweep_temporaries(make_dir(target.parent))
    try:
        # An unnamed file: nothing of it is left, however the process ends.
        with storage_errors(target), tempfile.TemporaryFile(dir=target.parent) as archive:
            retried(lambda: _download(source, archive, entry, timeout_s, progress), backoff_s)
            _extract(archive, entry, target)
    except RetryableError as failure:
        raise NetworkError(f"could not fetch {name}: {failure}; try again later, or {by_hand}") from failure
    return target


def _is_there(target: Path, entry: DatasetEntry) -> bool:
    """Whether the cache holds the published file; another file in its place is the user's, so it is not deleted."""
    try:
        found = _describe(target)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StorageError(f"{target} cannot be read: {error.strerror}; move it away and run again") from error
    if found != _published(entry):
        raise DataError(
            f"{target} has {found}, but the published file has {_published(entry)}; delete it and run again"
        )
    return True


def _describe(path: Path) -> str:
    with path.open("rb") as handle:
        sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
        return f"{handle.tell():,} bytes and sha256 {sha256}"


def _published(entry: DatasetEntry) -> str:
    return f"{entry.member_bytes:,} bytes and sha256 {entry.sha256}"


def _download(
    source: str, archive: IO[bytes], entry: DatasetEntry, timeout_s: float, progress: Progress | None
) -> None:
    import requests

    archive.seek(0)
    archive.truncate()
    # `identity`: the body's length is then the file's, so a cut is seen and the progress is right.
    headers = {"User-Agent": "lasttoken", "Accept-Encoding": "identity"}
    try:
        with requests.get(source, stream=True, timeout=timeout_s, headers=headers) as response:
            if response.status_code != 200:
                raise refusal(response.status_code, response.headers.get("Retry-After"))
            _receive(response, archive, entry, progress)
    except requests.exceptions.ChunkedEncodingError as error:
        raise RetryableError("the download was cut off", wait_s=0) from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise RetryableError(why(error, timeout_s), wait_s=0) from error
    except requests.RequestException as error:
        raise RetryableError(why(error, timeout_s)) from error


def _receive(response: requests.Response, archive: IO[bytes], entry: DatasetEntry, progress: Progress | None) -> None:
    announced = response.headers.get("Content-Length", "")
    total = int(announced) if announced.isdigit() else entry.archive_bytes
    limit = max(entry.archive_bytes or 0, entry.member_bytes) + ARCHIVE_SLACK_BYTES
    received = 0
    for chunk in response.iter_content(CHUNK_BYTES):
        received += len(chunk)
        if received > limit:
            raise RetryableError(f"the server sends more than {limit:,} bytes, which cannot be the published zip")
        archive.write(chunk)
        if progress:
            progress(received, total)
    archive.flush()


def _extract(archive: IO[bytes], entry: DatasetEntry, target: Path) -> None:
    """Make `target` of the member of the archive, if it is the published one."""
    with new_file(target) as temporary:
        with temporary.open("wb") as content:
            _unpack(archive, entry, content)
        found = _describe(temporary)
        if temporary.stat().st_size > entry.member_bytes:
            raise RetryableError(
                f"{entry.member!r} in the zip has more than the published {entry.member_bytes:,} bytes"
            )
        if found != _published(entry):
            raise RetryableError(
                f"{entry.member!r} in the zip has {found}, but the published file has {_published(entry)}"
            )


def _unpack(archive: IO[bytes], entry: DatasetEntry, content: IO[bytes]) -> None:
    """Write the member to `content`, one byte too many at most. Names in the zip are compared, never used as paths."""
    left = entry.member_bytes + 1
    for chunk in _member_chunks(archive, entry):
        content.write(chunk[:left])
        left -= len(chunk)
        if left <= 0:
            return


def _member_chunks(archive: IO[bytes], entry: DatasetEntry) -> Iterator[bytes]:
    # What zipfile raises at a broken zip, an encrypted member or an unknown compression is not one class.
    broken = (BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError, OverflowError)
    try:
        with ZipFile(archive) as folder:
            if entry.member not in folder.namelist():
                raise RetryableError(
                    f"the zip has no file {entry.member!r}, only {one_of(folder.namelist()) or 'nothing'}"
                )
            with folder.open(entry.member) as member:
                while chunk := member.read(CHUNK_BYTES):
                    yield chunk
    except broken as error:
        raise RetryableError(f"what arrived is not a whole zip file ({why(error)})") from error
