"""The folder of a run. The run is finished when metrics.json exists, which is written last.

run.toml  splits/  history.jsonl  resume.safetensors (while it trains)
config.json  model.safetensors  tokenizer.json  ngrams.json  ngrams.safetensors (where the classifier contains n-grams)
predictions/  curves/  report.html  README.md  metrics.json  adapter/ (with --keep-adapter)
trials.sqlite3  trials.csv (of a search)
"""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from lasttoken.classifier.run_documents import MetricsFile, RunFile
from lasttoken.core.documents import checked, load_json, to_json
from lasttoken.core.errors import RunError
from lasttoken.core.storage import dangling_link, is_leftover, make_dir, storage_errors, sweep_temporaries, write_text

TRIALS = "trials.sqlite3"  # of a search, which goes on from it
FILES = (
    "run.toml",
    "history.jsonl",
    "resume.safetensors",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "ngrams.json",
    "ngrams.safetensors",
    "report.html",
    "README.md",
    TRIALS,
    f"{TRIALS}-journal",
    "trials.csv",
)
FOLDERS = ("splits", "curves", "predictions", "adapter")
FINAL = "metrics.json"
GIVE_RUN = "give the folder that `lasttoken train --out` wrote"


@dataclass(frozen=True)
class RunDir:
    """The paths of a run's files, and the order in which they are written and removed."""

    path: Path

    @property
    def splits(self) -> Path:
        """train.csv, validation.csv, test.csv."""
        return self.path / "splits"

    @property
    def predictions(self) -> Path:
        """validation.csv, test.csv: the predictions for the rows of those splits, in their order."""
        return self.path / "predictions"

    @property
    def adapter(self) -> Path:
        """The updates of LoRA in peft's format."""
        return self.path / "adapter"

    @property
    def resume_file(self) -> Path:
        """The state of an unfinished training."""
        return self.path / "resume.safetensors"

    @property
    def is_finished(self) -> bool:
        """Whether the run is complete."""
        return (self.path / FINAL).is_file()

    @property
    def is_resumable(self) -> bool:
        """Whether a training has begun here and is not complete."""
        return not self.is_finished and all((self.path / name).is_file() for name in ("splits/train.csv", "run.toml"))

    def check_free(self, overwrite: bool, replace_unfinished: bool = True) -> None:
        """Reject a folder with something to lose, or with something that `clear` could not remove.

        Raises:
            RunError: a finished run, an unfinished one unless `replace_unfinished`, or files that no run writes.
        """
        if self.path.is_file():
            raise RunError(f"--out {self.path} is a file; give a folder")
        if target := dangling_link(self.path):
            raise RunError(f"--out {self.path} is a link to {target}, which does not exist; create that folder first")
        if self.is_finished and not overwrite:
            raise RunError(f"{self.path} holds a finished run; pass --overwrite to replace it, or another --out")
        if not self.path.is_dir():
            return
        ours = {*FILES, *FOLDERS, FINAL}
        unknown = sorted(p.name for p in self.path.iterdir() if p.name not in ours and not is_leftover(p.name))
        if unknown and not (self.path / "run.toml").is_file():
            raise RunError(f"{self.path} holds {unknown[0]!r} and is not a run directory; give another --out")
        if self.resume_file.is_file() and not self.is_finished and not replace_unfinished:
            hint = f"finish it with `lasttoken train --resume --out {self.path}`"
            raise RunError(f"{self.path} holds an unfinished training; {hint}, or give another folder")
        self._check_kinds()

    def _check_kinds(self) -> None:
        """Reject links and files of the wrong type under the names that a run uses."""
        for name in FOLDERS:
            path = self.path / name
            if path.is_symlink():
                raise RunError(
                    f"{path} is a symbolic link, which a run neither follows nor removes; remove it, or give another "
                    "--out"
                )
            if path.exists() and not path.is_dir():
                raise RunError(f"{path} is a file where a run has a folder; move it away, or give another --out")
        for name in (FINAL, *FILES):
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                raise RunError(f"{path} is a folder where a run has a file; move it away, or give another --out")

    def clear(self, keep: Collection[str] = ()) -> None:
        """Create the folder, or remove an earlier run's files, its metrics and train split first.

        The caller holds the lock on the folder (`exclusive`). A new folder is private (mode 0700), because a run holds
        texts; an existing one keeps its mode. `keep` names files that stay: run.toml marks a folder with other files as
        that of a run.

        Raises:
            RunError: see `check_free`; nothing has been removed.
            StorageError: no permission.
        """
        make_dir(self.path, mode=0o700)
        self._check_kinds()
        with storage_errors(self.path):
            # Without metrics.json a run is not finished, without its train split it is not resumed.
            for name in (FINAL, "splits/train.csv", *FILES):
                if name not in keep:
                    (self.path / name).unlink(missing_ok=True)
            for name in FOLDERS:
                if (self.path / name).is_dir():
                    shutil.rmtree(self.path / name)
            sweep_temporaries(self.path, older_than_s=0.0)

    def write_toml(self, content: Mapping[str, Any]) -> None:
        """Write run.toml."""
        write_text(self.path / "run.toml", tomli_w.dumps(content))

    def read_toml(self) -> dict[str, Any]:
        """Read run.toml.

        Raises:
            RunError: it cannot be read, or a value has the wrong type.
        """
        path = self.path / "run.toml"
        try:
            content = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path} cannot be read ({error}); is {self.path} a run directory?") from error
        checked(RunFile, content, path)
        return content

    def check_is_folder(self) -> None:
        """Reject a file, and a path where there is nothing.

        Raises:
            RunError: says which it is, and what to give.
        """
        if self.path.is_file():
            raise RunError(f"{self.path} is a file, not a run directory; {GIVE_RUN}")
        if not self.path.is_dir():
            raise RunError(f"there is no run directory {self.path}; {GIVE_RUN}")

    def read_metrics(self) -> dict[str, Any]:
        """Read metrics.json.

        Raises:
            RunError: there is no finished run, or a value has the wrong type.
        """
        path = self.path / FINAL
        self.check_is_folder()
        try:
            content = load_json(path)
        except RunError as error:
            raise RunError(f"{error}; copy the run again or train it again") from error
        except FileNotFoundError as error:
            if not any((self.path / name).is_file() for name in ("run.toml", "model.safetensors")):
                inside = next((f", such as {run.parent}" for run in sorted(self.path.glob(f"*/{FINAL}"))), "")
                raise RunError(f"{self.path} has no {FINAL}: it is not a run directory; {GIVE_RUN}{inside}") from error
            hint = f"finish it with `lasttoken train --resume --out {self.path}`"
            raise RunError(f"{self.path} has no {FINAL}, so its run is not finished; {hint}") from error
        checked(MetricsFile, content, path)
        return content

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json, which marks the run as finished, and remove the state of the training."""
        with storage_errors(self.path):
            for folder in (self.path, *(self.path / name for name in FOLDERS)):
                if folder == self.path or not folder.is_symlink():
                    sweep_temporaries(
                        folder, older_than_s=0.0
                    )  # left by a process that was killed before the run was resumed
        write_text(self.path / FINAL, to_json(metrics, indent=1) + "\n")
        self.resume_file.unlink(missing_ok=True)

    def write_history(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write the whole history.jsonl."""
        write_text(self.path / "history.jsonl", "".join(_json_line(line) for line in lines))

    def append_history(self, line: Mapping[str, Any]) -> None:
        """Append a line to history.jsonl."""
        path = self.path / "history.jsonl"
        with storage_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(_json_line(line))
            file.flush()
            os.fsync(file.fileno())


def read_settings(run_dir: RunDir) -> dict[str, Any]:
    """The settings that a run was started with, without the path of its data."""
    settings = dict(run_dir.read_toml().get("settings", {}))
    settings.pop("data", None)
    return settings


def _json_line(line: Mapping[str, Any]) -> str:
    return to_json(line) + "\n"
