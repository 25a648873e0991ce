"""Data sets are fetched by name: a zip is downloaded, and one member of it is checked and put in the cache.

    fetch_dataset("sms-spam")   zip ──limit──► unnamed file ──one member, limit, sha256──► <cache>/datasets/sms-spam/…

A file gets its name in the cache only when it is complete, so a file in the cache is used without network access.
`requests` is imported where it is used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING
from zipfile import ZipFile

from lasttoken.core.errors import DataError, NetworkError, one_of
from lasttoken.core.published import CORRUPT_ZIP, PublishedFile
from lasttoken.core.retries import BACKOFF_S, TIMEOUT_S, RetryableError, retried, status_error, why
from lasttoken.core.storage import cache_dir, make_dir, new_file, storage_errors, sweep_temporaries
from lasttoken.data.catalog import DatasetEntry, find_dataset

if TYPE_CHECKING:
    import requests

Progress = Callable[[int, int | None], None]  # (bytes so far, total bytes or None); starts again at each retry

CHUNK_BYTES = 64 * 1024
ARCHIVE_SLACK_BYTES = 1_000_000  # a zip may also hold a readme, so its exact size is not checked


def fetch_dataset(
    name: str,
    *,
    offline: bool = False,
    progress: Progress | None = None,
    url: str | None = None,
    timeout_s: float = TIMEOUT_S,
    backoff_s: float = BACKOFF_S,
) -> Path:
    """The path of a data set's file, which is fetched if it is not in the cache.

    A file that was put there by hand is used if it is the published one. `url` replaces the catalog's address (a
    mirror); the downloaded file is checked in the same way.

    Raises:
        DataError: no such data set, or the file in the cache is not the published one.
        NetworkError: offline, unreachable, too slow, truncated, or not the published file; names the place for it.
        StorageError: no permission to read or write the cache, or a full disk.
    """
    entry = find_dataset(name)
    source = url or entry.url
    target = cache_dir() / "datasets" / entry.name / entry.member
    by_hand = f"download {source} by hand and put the file {entry.member!r} from it at {target}"
    if entry.published.is_at(target, DataError):
        return target
    if offline:
        raise NetworkError(f"{name} is not in the cache, and --offline forbids fetching it; {by_hand}")
    sweep_temporaries(make_dir(target.parent))
    try:
        # An unnamed file leaves nothing behind, however the process ends.
        with storage_errors(target), tempfile.TemporaryFile(dir=target.parent) as archive:
            retried(lambda: _download(source, archive, entry, timeout_s, progress), backoff_s)
            _extract(archive, entry, target)
    except RetryableError as failure:
        raise NetworkError(f"could not fetch {name}: {failure}; try again later, or {by_hand}") from failure
    return target


def _download(
    source: str, archive: IO[bytes], entry: DatasetEntry, timeout_s: float, progress: Progress | None
) -> None:
    import requests

    archive.seek(0)
    archive.truncate()
    # `identity`: the length of the body is then that of the file, which shows truncation and progress.
    headers = {"User-Agent": "lasttoken", "Accept-Encoding": "identity"}
    try:
        with requests.get(source, stream=True, timeout=timeout_s, headers=headers) as response:
            if response.status_code != 200:
                raise status_error(response.status_code, response.headers.get("Retry-After"))
            _receive(response, archive, entry, progress)
    except requests.exceptions.ChunkedEncodingError as error:
        raise RetryableError("the download was truncated", wait_s=0) from error
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
    """Extract the member of the archive to `target`, if it is the published file."""
    with new_file(target) as temporary:
        with temporary.open("wb") as content:
            _unpack(archive, entry, content)
        unpacked = PublishedFile.of(temporary)
        if unpacked.n_bytes > entry.member_bytes:
            raise RetryableError(
                f"{entry.member!r} in the zip has more than the published {entry.member_bytes:,} bytes"
            )
        if unpacked != entry.published:
            raise RetryableError(
                f"{entry.member!r} in the zip has {unpacked}, but the published file has {entry.published}"
            )


def _unpack(archive: IO[bytes], entry: DatasetEntry, content: IO[bytes]) -> None:
    """Write the member to `content`, at most one byte more than published. Names in the zip are never used as paths."""
    left = entry.member_bytes + 1
    for chunk in _member_chunks(archive, entry):
        content.write(chunk[:left])
        left -= len(chunk)
        if left <= 0:
            return


def _member_chunks(archive: IO[bytes], entry: DatasetEntry) -> Iterator[bytes]:
    try:
        with ZipFile(archive) as folder:
            if entry.member not in folder.namelist():
                raise RetryableError(
                    f"the zip has no file {entry.member!r}, only {one_of(folder.namelist()) or 'nothing'}"
                )
            with folder.open(entry.member) as member:
                while chunk := member.read(CHUNK_BYTES):
                    yield chunk
    except (*CORRUPT_ZIP, OSError) as error:
        raise RetryableError(f"the downloaded file is not a complete zip file ({why(error)})") from error
