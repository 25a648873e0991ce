"""Backbones by name or hub id, through huggingface_hub and its own cache.

    fetch_backbone("gpt2")      config.json, tokenizer, safetensors ──huggingface_hub──► the hub's own cache

A complete backbone in that cache is used without a request. `huggingface_hub` is imported where it is used, because
loading a local backbone does not need it.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from lasttoken.backbone.catalog import BACKBONES, find_backbone
from lasttoken.core.documents import load_json
from lasttoken.core.errors import BackboneError, LastTokenError, NetworkError, nearest, one_of, short_repr
from lasttoken.core.retries import BACKOFF_S, TIMEOUT_S, RetryableError, retried, status_error, why
from lasttoken.core.storage import storage_errors

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

T = TypeVar("T")

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))


class _UnusableError(Exception):
    """What is wrong with the files of a repository: the second half of a sentence, after "... cannot be used: "."""


def fetch_backbone(
    name_or_hub_id: str,
    *,
    offline: bool = False,
    with_weights: bool = True,
    show_progress: Callable[[], bool] = lambda: True,
    timeout_s: float = TIMEOUT_S,
    backoff_s: float = BACKOFF_S,
) -> Path:
    """The folder of a backbone's files in the hub's cache; fetches those that are missing.

    The name is one of the catalog, or a hub id with a slash, and may end in `@revision` (a branch, tag or commit).
    `show_progress` is asked, when something has to be fetched, whether bars may be shown on a terminal. The cache,
    `HF_ENDPOINT` and the token are the hub's own.

    Files: config.json, tokenizer.json (or vocab.json and merges.txt), and model.safetensors (or its shards) unless
    weights are not wanted.

    Raises:
        BackboneError: the name, repository or revision does not exist or may not be read, or its files cannot be used.
        NetworkError: offline and not in the cache, unreachable, too slow, or interrupted.
        StorageError: no permission to write the hub's cache, or a full disk.
    """
    repo_id, revision = _parse_id(name_or_hub_id)
    from huggingface_hub import constants, errors

    try:
        cached = _cached_folder(repo_id, revision, with_weights)
    except errors.HFValidationError as error:
        raise BackboneError(f"{name_or_hub_id!r} is not a hub id; write it as 'owner/name'") from error
    if cached is not None:
        return cached
    wanted = f"the {'backbone' if with_weights else 'tokenizer of'} {name_or_hub_id!r}"
    files = "it" if with_weights else f"{CONFIG} and tokenizer.json"
    if offline or constants.HF_HUB_OFFLINE:
        raise NetworkError(
            f"{wanted} is not in the cache, and offline nothing is fetched; "
            f"run `lasttoken fetch {name_or_hub_id}` with a network, or pass a folder that holds {files}"
        )
    with storage_errors(Path(constants.HF_HUB_CACHE)), _quiet_hub(show_progress()):
        try:
            return _Repository(repo_id, revision, timeout_s, backoff_s).fetch(with_weights)
        except RetryableError as failure:
            raise NetworkError(
                f"could not fetch {wanted} from {constants.ENDPOINT}: {failure}; "
                f"run `lasttoken fetch {name_or_hub_id}` again later, or pass a folder that holds {files}"
            ) from failure


def _parse_id(name: str) -> tuple[str, str]:
    """The repository and revision of a name.

    >>> _parse_id("gpt2"), _parse_id("someone/gpt2-news@v1")
    (('openai-community/gpt2', 'main'), ('someone/gpt2-news', 'v1'))
    """
    repo_id, separator, revision = name.partition("@")
    if "/" not in repo_id:
        entry = find_backbone(repo_id)
        if entry.wheel:
            raise BackboneError(f"{name!r}: {repo_id} comes from the package index, without revisions; drop the '@'")
        if entry.hub_id is None:
            raise BackboneError(f"the backbone {repo_id!r} comes with the package; there is nothing to fetch")
        repo_id = entry.hub_id
    revision = revision if separator else "main"
    if not re.fullmatch(r"[\w./-]+", revision) or ".." in revision:
        raise BackboneError(f"{revision!r} in {name!r} is not a branch, a tag or a commit; write 'owner/name@revision'")
    return repo_id, revision


def _choose_files(names: Set[str], with_weights: bool = True) -> list[str]:
    """Which of a repository's files to use, weights last if any. An index of shards stands for the shards.

    Raises:
        _UnusableError: a file is missing.
    """
    tokenizer = next((files for files in TOKENIZERS if names >= set(files)), None)
    weights = next((file for file in (WEIGHTS, WEIGHTS_INDEX) if file in names), None)
    if CONFIG not in names:
        raise _UnusableError(f"it has no {CONFIG}; it is not a model of the transformers library")
    if weights is None and with_weights:
        raise _UnusableError(
            f"it has no {WEIGHTS}, and other formats can run code when they are loaded; load it in transformers, "
            "call save_pretrained(folder, safe_serialization=True) on model and tokenizer, and pass the folder"
        )
    if tokenizer is None:
        raise _UnusableError("it has no tokenizer.json, nor vocab.json and merges.txt; save its tokenizer beside it")
    return [CONFIG, *tokenizer, *([weights] if weights and with_weights else [])]


def _shards(index: Path) -> list[str]:
    """The shards that an index names; they must be in its own folder."""
    try:
        shards = sorted(set(load_json(index, BackboneError)["weight_map"].values()))
        plain = all(re.fullmatch(r"[\w.-]+\.safetensors", shard) for shard in shards)
    except (BackboneError, OSError, KeyError, TypeError, AttributeError) as error:
        raise _UnusableError(f"its {index.name} is not an index of safetensors shards") from error
    if not plain or not shards:
        raise _UnusableError(
            f"its {index.name} names files that are not safetensors shards beside it: {one_of(shards) or 'none'}"
        )
    return shards


def _cached_folder(repo_id: str, revision: str, with_weights: bool = True) -> Path | None:
    """The snapshot in the hub's cache if it is complete, without a request; otherwise None."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repo_id, CONFIG, revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    names = {path.name for path in folder.iterdir() if path.is_file()}
    try:
        files = _choose_files(names, with_weights)
        shards = _shards(folder / WEIGHTS_INDEX) if files[-1] == WEIGHTS_INDEX else []
    except _UnusableError:
        return None
    return folder if names >= set(shards) else None


class _Repository:
    """One revision of a repository, with the times to wait for its server."""

    def __init__(self, repo_id: str, revision: str, timeout_s: float, backoff_s: float) -> None:
        self.repo_id, self.revision, self.timeout_s, self.backoff_s = repo_id, revision, timeout_s, backoff_s

    def fetch(self, with_weights: bool) -> Path:
        """The folder of the complete snapshot; without weights if they are not wanted."""
        try:
            files = _choose_files(self.list_files(), with_weights)
            _check_architecture(self.fetch_file(files[0]))
            *_, last = [self.fetch_file(file) for file in files[1:]]
            for shard in _shards(last) if last.name == WEIGHTS_INDEX else []:
                self.fetch_file(shard)
        except _UnusableError as error:
            raise BackboneError(
                f"the backbone {self.repo_id!r} at {self.revision!r} cannot be used: {error}"
            ) from error
        folder = _cached_folder(self.repo_id, self.revision, with_weights)
        if folder is None:
            raise RetryableError(f"{self.revision!r} of {self.repo_id!r} changed while it was being fetched")
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
        """The result of `request`, which is repeated after errors that may pass; they become lasttoken's errors."""

        def attempt() -> T:
            with _hub_failures(self.repo_id, self.revision, self.timeout_s):
                return request()

        return retried(attempt, self.backoff_s)


def _check_architecture(config: Path) -> None:
    """Reject an unsupported architecture before gigabytes are fetched; the loader checks everything else."""
    from lasttoken.backbone.families import FAMILIES, named_family  # it imports torch
    from lasttoken.backbone.unsupported import describe_unsupported

    try:
        content = load_json(config, BackboneError)
    except (BackboneError, OSError) as error:
        raise _UnusableError(f"its {CONFIG} is not a JSON object") from error
    if named_family(content) is None:
        model_type = content["model_type"]
        raise _UnusableError(
            f"it has the model_type {short_repr(model_type)}{describe_unsupported(model_type)}; "
            f"use a model of type {one_of(FAMILIES)}"
        )


@contextmanager
def _quiet_hub(show_progress: bool) -> Iterator[None]:
    """Switch off telemetry and log lines, and progress bars unless wanted on a terminal; restore them afterwards."""
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
    """Turn the hub's exceptions into lasttoken's. Those of the disk pass unchanged."""
    from huggingface_hub import constants, errors

    log_in = "run `hf auth login` or set HF_TOKEN"
    # The base class of the HTTP library's exceptions (the hub changed that library twice), and what hf_xet raises.
    connection_errors: tuple[type[Exception], ...] = (
        *cast(tuple[type[Exception], ...], errors.HfHubHTTPError.__bases__),
        OSError,
        RuntimeError,
    )
    try:
        yield
    except LastTokenError:
        raise
    except errors.GatedRepoError as error:
        terms = f"{constants.ENDPOINT}/{repo_id}"
        raise BackboneError(f"{repo_id!r} is gated; accept its terms at {terms}, then {log_in}") from error
    except errors.RevisionNotFoundError as error:
        raise BackboneError(f"{repo_id!r} has no branch, tag or commit {revision!r}; give an existing one") from error
    except errors.EntryNotFoundError as error:
        raise RetryableError(why(error, timeout_s)) from error
    except errors.HfHubHTTPError as error:
        raise _error_of_response(error, repo_id) from error
    except (ValueError, LookupError, TypeError) as error:
        raise RetryableError(f"the response is not that of a model hub ({why(error, timeout_s)})") from error
    except connection_errors as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise RetryableError(why(error, timeout_s), wait_s=0) from error


def _error_of_response(error: HfHubHTTPError, repo_id: str) -> Exception:
    from huggingface_hub import constants, errors

    status: int = error.response.status_code
    if status == 404 or isinstance(error, errors.RepositoryNotFoundError):
        known = [entry.hub_id for entry in BACKBONES.values() if entry.hub_id]
        return BackboneError(
            f"{constants.ENDPOINT} has no readable model {repo_id!r}{nearest(repo_id, known)}; "
            "correct the name, or run `hf auth login` or set HF_TOKEN if it is private"
        )
    if status in (401, 403):
        return BackboneError(f"{repo_id!r} may not be read (status {status}); run `hf auth login` or set HF_TOKEN")
    return status_error(status, error.response.headers.get("Retry-After"))
