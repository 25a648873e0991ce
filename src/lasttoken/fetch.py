"""Fetching what has a name: data sets and backbones, whole and checked, or one sentence about why not.

    fetch_dataset("sms-spam")   zip ──limit──► unnamed file ──one member, limit, sha256──► <cache>/datasets/sms-spam/…
    fetch_backbone("gpt2")      config.json, tokenizer, safetensors ──huggingface_hub──► the hub's own cache

A file gets its name in the cache only when it is whole, so whatever has a name there is used without asking
the network again. Failures that may pass (no answer, a cut body, 429, 5xx) are tried again with growing waits.
`requests` and `huggingface_hub` are imported where they are used: loading a local backbone needs neither.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import responses
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar, cast
from zipfile import BadZipFile, ZipFile

from lasttoken.catalog import BACKBONES, DATASETS, DatasetEntry, find_backbone, find_dataset
from lasttoken.errors import BackboneError, DataError, NetworkError, StorageError, nearest, one_of
from lasttoken.storage import cache_dir, make_dir, new_file, storage_errors, sweep_temporaries

if TYPE_CHECKING:
    import requests
    from huggingface_hub.errors import HfHubHTTPError

Progress = Callable[[int, int | None], None]  # (bytes so far, bytes in all or None); starts over when tried again

TIMEOUT_S = 20.0  # without a single byte from the server
ATTEMPTS = 4
BACKOFF_S = 1.0  # waits of 1, 2 and 4 s between the attempts
LONGEST_WAIT_S = 60.0  # a server that asks for more is not waited for
CHUNK_BYTES = 64 * 1024
ARCHIVE_SLACK_BYTES = 1_000_000  # a zip may hold a readme beside the member, and is not known by its size

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))

T = TypeVar("T")


class _FailureError(Exception):
    """Why a request failed. `wait_s` None: it would fail again; else the least wait before another attempt."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _UnusableError(Exception):
    """What is wrong with the files of a repository; the sentence goes on after "... cannot be used: "."""


def list_names() -> list[str]:
    """Every name that can be fetched: backbones, then data sets."""
    return [name for name, entry in BACKBONES.items() if entry.hub_id] + list(DATASETS)


# ---- data sets


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
            _retried(lambda: _download(source, archive, entry, timeout_s, progress), backoff_s)
            _extract(archive, entry, target)
    except _FailureError as failure:
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
                raise _refusal(response.status_code, response.headers.get("Retry-After"))
            _receive(response, archive, entry, progress)
    except requests.exceptions.ChunkedEncodingError as error:
        raise _FailureError("the download was cut off", wait_s=0) from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _FailureError(_why(error, timeout_s), wait_s=0) from error
    except requests.RequestException as error:
        raise _FailureError(_why(error, timeout_s)) from error


def _receive(response: requests.Response, archive: IO[bytes], entry: DatasetEntry, progress: Progress | None) -> None:
    announced = response.headers.get("Content-Length", "")
    total = int(announced) if announced.isdigit() else entry.archive_bytes
    limit = max(entry.archive_bytes or 0, entry.member_bytes) + ARCHIVE_SLACK_BYTES
    received = 0
    for chunk in response.iter_content(CHUNK_BYTES):
        received += len(chunk)
        if received > limit:
            raise _FailureError(f"the server sends more than {limit:,} bytes, which cannot be the published zip")
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
            raise _FailureError(f"{entry.member!r} in the zip has more than the published {entry.member_bytes:,} bytes")
        if found != _published(entry):
            raise _FailureError(
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
                raise _FailureError(
                    f"the zip has no file {entry.member!r}, only {one_of(folder.namelist()) or 'nothing'}"
                )
            with folder.open(entry.member) as member:
                while chunk := member.read(CHUNK_BYTES):
                    yield chunk
    except broken as error:
        raise _FailureError(f"what arrived is not a whole zip file ({_why(error)})") from error


# ---- backbones


def fetch_backbone(
    name_or_hub_id: str,
    *,
    offline: bool = False,
    show_progress: bool = True,
    timeout_s: float = TIMEOUT_S,
    backoff_s: float = BACKOFF_S,
) -> Path:
    """The folder of a backbone's files in the hub's cache, fetched first where it is not whole.

    The name is one of the catalog, or a hub id with a slash; `@revision` (a branch, tag or commit) may follow.
    What is whole in the cache is used without a request. The cache, `HF_ENDPOINT` and the token are the hub's own.

    Files: config.json, tokenizer.json (or vocab.json and merges.txt), model.safetensors (or its shards).

    Raises:
        BackboneError: no such name, repository or revision, no right to read it, or files that cannot be used.
        NetworkError: offline and not in the cache, unreachable, too slow, or cut.
        StorageError: no permission to write the hub's cache, or a full disk.
    """
    repo_id, revision = _parse_id(name_or_hub_id)
    from huggingface_hub import constants, errors

    try:
        cached = _cached_folder(repo_id, revision)
    except errors.HFValidationError as error:
        raise BackboneError(f"{name_or_hub_id!r} is not a hub id; write it as 'owner/name'") from error
    if cached is not None:
        return cached
    if offline or constants.HF_HUB_OFFLINE:
        raise NetworkError(
            f"the backbone {name_or_hub_id!r} is not in the cache, and nothing is fetched when offline; "
            f"run `lasttoken fetch {name_or_hub_id}` with a network, or pass a folder that holds it"
        )
    with storage_errors(Path(constants.HF_HUB_CACHE)), _quiet_hub(show_progress):
        try:
            return _Repository(repo_id, revision, timeout_s, backoff_s).fetch()
        except _FailureError as failure:
            raise NetworkError(
                f"could not fetch the backbone {name_or_hub_id!r} from {constants.ENDPOINT}: {failure}; "
                f"run `lasttoken fetch {name_or_hub_id}` again later, or pass a folder that holds it"
            ) from failure


def _parse_id(name: str) -> tuple[str, str]:
    """The repository and revision that a name means.

    >>> _parse_id("gpt2"), _parse_id("someone/gpt2-news@v1")
    (('openai-community/gpt2', 'main'), ('someone/gpt2-news', 'v1'))
    """
    repo_id, at, revision = name.partition("@")
    if "/" not in repo_id:
        hub_id = find_backbone(repo_id).hub_id
        if hub_id is None:
            raise BackboneError(f"the backbone {repo_id!r} comes with the package; there is nothing to fetch")
        repo_id = hub_id
    revision = revision if at else "main"
    if not re.fullmatch(r"[\w./-]+", revision) or ".." in revision:
        raise BackboneError(f"{revision!r} in {name!r} is not a branch, a tag or a commit; write 'owner/name@revision'")
    return repo_id, revision


def _choose_files(names: Set[str]) -> list[str]:
    """The files to use of those there are, the weights last. Shards are named by their index, which stands for them.

    Raises:
        _UnusableError: what is missing, and what to do.
    """
    tokenizer = next((files for files in TOKENIZERS if names >= set(files)), None)
    weights = next((file for file in (WEIGHTS, WEIGHTS_INDEX) if file in names), None)
    if CONFIG not in names:
        raise _UnusableError(f"it has no {CONFIG}; it is not a model of the transformers library")
    if weights is None:
        raise _UnusableError(
            f"it has no {WEIGHTS}, and other formats can run code when they are read; load it in transformers, "
            "call save_pretrained(folder, safe_serialization=True) on it and its tokenizer, and pass the folder"
        )
    if tokenizer is None:
        raise _UnusableError("it has no tokenizer.json, nor vocab.json and merges.txt; save its tokenizer beside it")
    return [CONFIG, *tokenizer, weights]


def _shards(index: Path) -> list[str]:
    """The shards that an index names, in its folder and nowhere else."""
    try:
        shards = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        plain = all(re.fullmatch(r"[\w.-]+\.safetensors", shard) for shard in shards)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _UnusableError(f"its {index.name} is not an index of safetensors shards") from error
    if not plain or not shards:
        raise _UnusableError(
            f"its {index.name} names files that are not safetensors shards beside it: {one_of(shards) or 'none'}"
        )
    return shards


def _cached_folder(repo_id: str, revision: str) -> Path | None:
    """The snapshot in the hub's cache, when every file to use is in it. Asks nobody."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repo_id, CONFIG, revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    names = {path.name for path in folder.iterdir() if path.is_file()}
    try:
        files = _choose_files(names)
        shards = _shards(folder / WEIGHTS_INDEX) if files[-1] == WEIGHTS_INDEX else []
    except _UnusableError:
        return None
    return folder if names >= set(shards) else None


class _Repository:
    """One repository of the hub, and how long to wait for it."""

    def __init__(self, repo_id: str, revision: str, timeout_s: float, backoff_s: float) -> None:
        self.repo_id, self.revision, self.timeout_s, self.backoff_s = repo_id, revision, timeout_s, backoff_s

    def fetch(self) -> Path:
        """The folder of the snapshot with every file to use in it."""
        try:
            files = _choose_files(self.list_files())
            _check_architecture(self.fetch_file(files[0]))
            *_, last = [self.fetch_file(file) for file in files[1:]]
            for shard in _shards(last) if last.name == WEIGHTS_INDEX else []:
                self.fetch_file(shard)
        except _UnusableError as error:
            raise BackboneError(
                f"the backbone {self.repo_id!r} at {self.revision!r} cannot be used: {error}"
            ) from error
        folder = _cached_folder(self.repo_id, self.revision)
        if folder is None:
            raise _FailureError(f"{self.revision!r} of {self.repo_id!r} changed while it was being fetched")
        return folder

    def list_files(self) -> set[str]:
        from huggingface_hub import HfApi

        info = self.call(lambda: HfApi().model_info(self.repo_id, revision=self.revision, timeout=self.timeout_s))
        return {file.rfilename for file in info.siblings or ()}

    def fetch_file(self, file: str) -> Path:
        from huggingface_hub import hf_hub_download

        # One file at a time and by name: snapshot_download lists the repository without any timeout.
        return Path(
            self.call(lambda: hf_hub_download(self.repo_id, file, revision=self.revision, etag_timeout=self.timeout_s))
        )

    def call(self, request: Callable[[], T]) -> T:
        """`request` with its failures in our words, tried again where they may pass."""

        def attempt() -> T:
            with _hub_failures(self.repo_id, self.revision, self.timeout_s):
                return request()

        return _retried(attempt, self.backoff_s)


def _check_architecture(config: Path) -> None:
    """Refuse another architecture before its gigabytes are fetched; everything else is the loader's to check."""
    try:
        model_type = json.loads(config.read_text("utf-8")).get("model_type", "gpt2")
    except (ValueError, AttributeError) as error:
        raise _UnusableError(f"its {CONFIG} is not a JSON object") from error
    if model_type != "gpt2":
        raise _UnusableError(f"it is of type {model_type!r}; use a model of GPT-2's architecture, such as 'gpt2'")


@contextmanager
def _quiet_hub(show_progress: bool) -> Iterator[None]:
    """No telemetry and no log lines; progress bars where wanted, and where stderr is a terminal. Put back after."""
    from huggingface_hub import constants
    from huggingface_hub.utils import logging as hub_logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    hide = not (show_progress and sys.stderr.isatty())
    hide = hide and constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not are_progress_bars_disabled()
    telemetry, verbosity = constants.HF_HUB_DISABLE_TELEMETRY, hub_logging.get_verbosity()
    try:
        constants.HF_HUB_DISABLE_TELEMETRY = True
        hub_logging.set_verbosity(logging.ERROR)
        if hide:
            disable_progress_bars()
        yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = telemetry
        hub_logging.set_verbosity(verbosity)
        if hide:
            enable_progress_bars()


@contextmanager
def _hub_failures(repo_id: str, revision: str, timeout_s: float) -> Iterator[None]:
    """The hub's exceptions in our words. Those of the disk pass through."""
    from huggingface_hub import constants, errors

    log_in = "run `hf auth login` or set HF_TOKEN"
    # The root of the HTTP library's exceptions (the hub changed that library twice), and what hf_xet raises.
    lost: tuple[type[Exception], ...] = (
        *cast(tuple[type[Exception], ...], errors.HfHubHTTPError.__bases__),
        OSError,
        RuntimeError,
    )
    try:
        yield
    except errors.GatedRepoError as error:
        terms = f"{constants.ENDPOINT}/{repo_id}"
        raise BackboneError(f"{repo_id!r} is gated; accept its terms at {terms}, then {log_in}") from error
    except errors.RevisionNotFoundError as error:
        raise BackboneError(f"{repo_id!r} has no branch, tag or commit {revision!r}; use one that it has") from error
    except errors.EntryNotFoundError as error:
        raise _FailureError(_why(error, timeout_s)) from error
    except errors.HfHubHTTPError as error:
        raise _hub_refusal(error, repo_id) from error
    except (ValueError, LookupError, TypeError) as error:
        raise _FailureError(f"the answer is not one of a model hub ({_why(error, timeout_s)})") from error
    except lost as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _FailureError(_why(error, timeout_s), wait_s=0) from error


def _hub_refusal(error: HfHubHTTPError, repo_id: str) -> Exception:
    from huggingface_hub import constants, errors

    status: int = error.response.status_code
    if status == 404 or isinstance(error, errors.RepositoryNotFoundError):
        known = [entry.hub_id for entry in BACKBONES.values() if entry.hub_id]
        return BackboneError(
            f"{constants.ENDPOINT} has no model {repo_id!r} that may be read{nearest(repo_id, known)}; "
            "correct the name, or run `hf auth login` or set HF_TOKEN if it is private"
        )
    if status in (401, 403):
        return BackboneError(f"{repo_id!r} may not be read (status {status}); run `hf auth login` or set HF_TOKEN")
    return _refusal(status, error.response.headers.get("Retry-After"))


# ---- attempts and reasons


def _retried(attempt: Callable[[], T], backoff_s: float) -> T:
    """The result of `attempt`, called again after failures that may pass, with waits that double."""
    for tried in range(ATTEMPTS - 1):
        try:
            return attempt()
        except _FailureError as failure:
            if failure.wait_s is None or failure.wait_s > LONGEST_WAIT_S:
                raise
            wait_s = max(failure.wait_s, backoff_s * 2**tried)
        time.sleep(wait_s)
    return attempt()


def _refusal(status: int, retry_after: str | None) -> _FailureError:
    """What a status other than 200 means: 429 and 5xx may pass, after the time that the server asks for."""
    reason = f"the server answered {status} {responses.get(status, '')}".rstrip()
    if status != 429 and status < 500:
        return _FailureError(reason)
    wait_s = _seconds(retry_after)
    return _FailureError(f"{reason} and asks to wait {wait_s:.0f} s" if wait_s > LONGEST_WAIT_S else reason, wait_s)


def _seconds(retry_after: str | None) -> float:
    """A Retry-After header, a number of seconds or a date, as seconds from now.

    >>> _seconds("120"), _seconds(None), _seconds("Wed, 21 Oct 2015 07:28:00 GMT"), _seconds("soon")
    (120.0, 0.0, 0.0, 0.0)
    """
    if retry_after is None:
        return 0.0
    try:
        if retry_after.strip().isascii() and retry_after.strip().isdigit():
            return float(retry_after)
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # not a date, or one without a time zone
        return 0.0


def _why(error: BaseException, timeout_s: float | None = None) -> str:
    """The first cause of an exception in a few words on one line."""
    *_, first = _causes(error)
    if isinstance(first, TimeoutError) and timeout_s is not None:
        return f"no answer within {timeout_s:g} s"
    words = " ".join(str(getattr(first, "strerror", None) or first).split())
    return words[:200] or type(first).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and its causes, as the HTTP libraries keep them: `from`, `reason` or an argument.

    Not `__context__`: it ends in whatever the caller was handling when it called us.
    """
    while error is not None:
        yield error
        kept = (error.__cause__, getattr(error, "reason", None), *error.args)
        error = next((cause for cause in kept if isinstance(cause, BaseException)), None)
