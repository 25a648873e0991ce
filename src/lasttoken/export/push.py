"""Upload an export to a hub, with the run's model card."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from lasttoken.core.errors import NetworkError, SettingsError
from lasttoken.core.retries import why
from lasttoken.export.hf import export_hf


@dataclass(frozen=True)
class Pushed:
    """An upload: the repository's address, and the sentences about the export, see `Exported.notes`."""

    address: str
    notes: tuple[str, ...]


def push(
    run: Path,
    repository: str,
    *,
    private: bool = False,
    token: str | None = None,
    check: bool = True,
    without_ngrams: bool = False,
) -> Pushed:
    """Export a run for transformers and upload it to a repository, which is created if it does not exist.

    The default `token` is HF_TOKEN, or the one that `hf auth login` has stored;
    HF_ENDPOINT names another hub.

    Raises:
        SettingsError: `repository` is not a valid name, or the run cannot be exported.
        NetworkError: there is no token, no permission, or no answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    # The base class of the HTTP library's exceptions (the hub changed that library twice), and what other errors raise.
    base_classes = cast(tuple[type[Exception], ...], HfHubHTTPError.__bases__)
    failures: tuple[type[Exception], ...] = (*base_classes, OSError, RuntimeError, ValueError, LookupError, TypeError)
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise SettingsError(f"{repository!r} is not a valid repository name; give owner/name")
    with tempfile.TemporaryDirectory(prefix="lasttoken-push-") as folder:
        exported = export_hf(run, Path(folder) / "export", check, without_ngrams)
        api = HfApi(token=token)
        try:
            made = api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(folder_path=exported.folder, repo_id=repository, commit_message="Upload a classifier")
        except HFValidationError as error:
            raise SettingsError(
                f"{repository!r} is not a valid repository name: {str(error).splitlines()[0]}"
            ) from error
        except LocalTokenNotFoundError as error:
            raise NetworkError("the hub requires a token; set HF_TOKEN, or log in with hf auth login") from error
        except HfHubHTTPError as error:
            raise NetworkError(_http_error(error, repository)) from error
        except failures as error:
            raise NetworkError(f"{repository} could not be pushed: {why(error)}") from error
    return Pushed(str(made), exported.notes)


def _http_error(error: Exception, repository: str) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return (
            "the hub does not accept the token (401); set HF_TOKEN to one that may write, or log in with hf auth login"
        )
    if status == 403:
        return f"the token may not write to {repository} (403); use one with write access, or another owner"
    return f"{repository} could not be pushed: the hub answered {status or why(error)}"
