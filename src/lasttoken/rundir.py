"""The folder that a run leaves. It is finished when metrics.json exists, which is written last.

run.toml  splits/  history.jsonl  resume.safetensors (while it trains)
config.json  model.safetensors  tokenizer.json  predictions/  curves/  report.html  README.md  metrics.json
"""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from lasttoken.documents import to_json
from lasttoken.errors import RunError
from lasttoken.storage import make_dir, storage_errors, sweep_temporaries, write_text

FILES = (
    "run.toml",
    "history.jsonl",
    "resume.safetensors",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "report.html",
    "README.md",
)
FOLDERS = ("splits", "curves", "predictions")
FINAL = "metrics.json"


@dataclass(frozen=True)
class RunDir:
    """The paths of a run, and the order they come and go in."""

    path: Path

    @property
    def splits(self) -> Path:
        """train.csv, validation.csv, test.csv."""
        return self.path / "splits"

    @property
    def predictions(self) -> Path:
        """validation.csv, test.csv: what was answered for each row of those splits, in their order."""
        return self.path / "predictions"

    @property
    def resume_file(self) -> Path:
        """The state of a training that is not finished."""
        return self.path / "resume.safetensors"

    @property
    def is_finished(self) -> bool:
        """Whether the run is complete."""
        return (self.path / FINAL).is_file()

    def check_free(self, overwrite: bool) -> None:
        """Refuse a folder that holds something to lose.

        Raises:
            RunError: a finished run, or files that are no run's.
        """
        if self.path.is_file():
            raise RunError(f"--out {self.path} is a file; give a folder")
        if self.is_finished and not overwrite:
            raise RunError(f"{self.path} holds a finished run; pass --overwrite to replace it, or another --out")
        if not self.path.is_dir():
            return
        ours = {*FILES, *FOLDERS, FINAL}
        foreign = sorted(p.name for p in self.path.iterdir() if p.name not in ours and ".tmp-" not in p.name)
        if foreign and not (self.path / "run.toml").is_file():
            raise RunError(f"{self.path} is not empty and holds no run ({foreign[0]!r} is in it); give another --out")

    def clear(self) -> None:
        """Remove an earlier run's files, its metrics first, and make the folder.

        Raises:
            StorageError: no permission.
        """
        make_dir(self.path)
        with storage_errors(self.path):
            for name in (FINAL, *FILES):
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
            RunError: not there or not readable.
        """
        path = self.path / "run.toml"
        try:
            return tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RunError(f"{path} cannot be read ({error}); is {self.path} a run directory?") from error

    def read_metrics(self) -> dict[str, Any]:
        """Read metrics.json.

        Raises:
            RunError: the run is not finished, or there is none.
        """
        path = self.path / FINAL
        if not self.path.is_dir():
            raise RunError(f"there is no run directory {self.path}; give the folder that `lasttoken train --out` wrote")
        try:
            content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except FileNotFoundError as error:
            if not any((self.path / name).is_file() for name in ("run.toml", "model.safetensors")):
                raise RunError(f"{self.path} has no {FINAL}: it is not a run directory") from error
            hint = f"finish it with `lasttoken train --resume --out {self.path}`"
            raise RunError(f"{self.path} has no {FINAL}, so its run is not finished; {hint}") from error
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read: {error}") from error
        return content

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json, which makes the run finished, and drop what only an unfinished one needs."""
        with storage_errors(self.path):
            for folder in (self.path, *(self.path / name for name in FOLDERS)):
                sweep_temporaries(folder, older_than_s=0.0)  # what it left when it was killed and resumed
        write_text(self.path / FINAL, to_json(metrics, indent=1) + "\n")
        self.resume_file.unlink(missing_ok=True)

    def write_history(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write the whole history.jsonl."""
        write_text(self.path / "history.jsonl", "".join(_json_line(line) for line in lines))

    def append_history(self, line: Mapping[str, Any]) -> None:
        """Add a line to history.jsonl, while training."""
        path = self.path / "history.jsonl"
        with storage_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(_json_line(line))
            file.flush()
            os.fsync(file.fileno())


def read_settings(run_dir: RunDir) -> dict[str, Any]:
    """The settings that a run was started with."""
    found = dict(run_dir.read_toml().get("settings", {}))
    found.pop("data", None)
    return found


def _json_line(line: Mapping[str, Any]) -> str:
    return to_json(line) + "\n"
