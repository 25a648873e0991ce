"""The folder of a study: a file for each training, so that a killed study goes on where it was.

study.toml  splits/  trainings/<hash of settings and seed>.safetensors     while it trains
study.csv  study.html  study.json                                          at the end; study.json comes last

A training is found by the hash of everything that changes its result. So a row that was changed is trained again, an
unchanged one is not, and two rows that are the same are trained once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray

from lasttoken.core.config import Settings
from lasttoken.core.documents import to_json
from lasttoken.core.errors import RunError
from lasttoken.core.storage import (
    dangling_link,
    is_leftover,
    make_dir,
    storage_errors,
    sweep_temporaries,
    write_bytes,
    write_text,
)
from lasttoken.data.folders import write_splits
from lasttoken.data.splitting.splits import Splits

START, FINAL = "study.toml", "study.json"
RESULTS = ("study.csv", "study.html")
FOLDERS = ("splits", "trainings")
SUFFIX = ".safetensors"
FORMAT = 1  # of a training's file; part of its name
WITHOUT_EFFECT = ("seeds", "cache_limit", "no_cache", "ignore_index")  # settings that change no result


@dataclass(frozen=True)
class TrainingResult:
    """What a study keeps of one training."""

    metrics: dict[str, Any]  # on the headline split, with intervals, as `SplitMetrics.to_json`
    validation: dict[str, Any]  # on validation, without
    trained: int  # numbers that the training changed
    total: int  # numbers in the whole classifier
    seconds: float  # of the training and its evaluation
    trunk_s: float  # of the features that were computed for it; 0 where they were there
    kept_step: int
    stopped: str | None
    values: NDArray[np.float64]  # [N], see `Task.row_values`, on the headline split
    losses: NDArray[np.float64]  # [N]
    predicted: NDArray[Any]  # label ids [N], or bool [N, K]
    choice: dict[str, Any] | None = None  # what the training left to validation, and what was chosen


def training_key(settings: Settings, seed: int) -> str:
    """The name of a training: equal for settings that give the same result."""
    values = {name: value for name, value in asdict(settings).items() if name not in WITHOUT_EFFECT}
    content = json.dumps([FORMAT, {**values, "seed": seed}], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class StudyDir:
    """The files of a study, and the order in which they are written and removed."""

    path: Path

    @property
    def is_begun(self) -> bool:
        """Whether the folder holds a study, finished or not."""
        return (self.path / START).is_file()

    @property
    def is_finished(self) -> bool:
        """Whether its table is there."""
        return (self.path / FINAL).is_file()

    def check_free(self, *, resume: bool, overwrite: bool) -> None:
        """Reject a folder with something to lose.

        Raises:
            RunError: a study, unless it is resumed or replaced, or files that no study writes.
        """
        if self.path.is_file():
            raise RunError(f"--out {self.path} is a file; give a folder")
        if target := dangling_link(self.path):
            raise RunError(f"--out {self.path} is a link to {target}, which does not exist; create that folder first")
        if not self.path.is_dir():
            return
        if not self.is_begun:
            unknown = sorted(entry.name for entry in self.path.iterdir() if not is_leftover(entry.name))
            if unknown:
                raise RunError(f"{self.path} holds {unknown[0]!r} and is not a study; give another --out")
        elif not resume and not overwrite:
            state = "a finished" if self.is_finished else "an unfinished"
            raise RunError(
                f"{self.path} holds {state} study; pass --resume to train only what is missing, --overwrite to replace "
                "it, or another --out"
            )

    def begin(self, content: Mapping[str, Any], splits: Splits, data_hash: str, *, resume: bool) -> bool:
        """Write what a study starts with, and remove an earlier one unless it is resumed; whether it is.

        Raises:
            RunError: the study that is to be resumed has other rows of data, or its backbone has other
                weights now; nothing has been changed.
            StorageError: no permission, or a full disk.
        """
        resumes = resume and self.is_begun
        weights = content.get("weights", {})
        if resumes:
            earlier = self.recorded()
            self._check_same(earlier, weights, data_hash)
            weights = {**earlier.get("weights", {}), **weights}  # the trainings on the earlier ones stay
        make_dir(self.path, mode=0o700)  # it holds texts
        with storage_errors(self.path):
            for name in (FINAL, *RESULTS, *(() if resumes else (START,))):
                (self.path / name).unlink(missing_ok=True)
            for name in () if resumes else FOLDERS:
                if (self.path / name).is_dir():
                    shutil.rmtree(self.path / name)
        write_text(self.path / START, tomli_w.dumps({**content, "data_hash": data_hash, "weights": weights}))
        if not resumes:
            write_splits(splits, self.path / "splits")
        return resumes

    def recorded(self) -> dict[str, Any]:
        """The content of study.toml; empty where it cannot be read."""
        try:
            return tomllib.loads((self.path / START).read_text("utf-8"))
        except (OSError, ValueError):
            return {}

    def _check_same(self, recorded: Mapping[str, Any], weights: Mapping[str, str], data_hash: str) -> None:
        """Reject other data and other weights than the recorded ones; weights that were not recorded may be any."""
        advice = "give another --out, or --overwrite without --resume to replace it"
        if recorded.get("data_hash") != data_hash:
            raise RunError(
                f"{self.path} holds a study of other data: its train, validation or test rows differ from these; "
                f"{advice}"
            )
        for name, value in weights.items():
            if recorded.get("weights", {}).get(name, value) != value:
                raise RunError(
                    f"{self.path} holds trainings on other weights of the backbone {name}; put those back, or {advice}"
                )

    def _file(self, key: str) -> Path:
        return self.path / "trainings" / f"{key}{SUFFIX}"

    def write(self, key: str, result: TrainingResult) -> None:
        """Keep a training.

        Raises:
            StorageError: no permission, or a full disk.
        """
        from safetensors.numpy import save

        arrays = {item.name: getattr(result, item.name) for item in fields(result) if _is_array(item.name)}
        facts = {item.name: getattr(result, item.name) for item in fields(result) if not _is_array(item.name)}
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        write_bytes(self._file(key), save(contiguous, {"result": to_json(facts)}))

    def read(self, key: str) -> TrainingResult | None:
        """A training that was kept; None: there is none that can be read."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._file(key), "np") as file:
                facts = json.loads(file.metadata()["result"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return TrainingResult(**facts, **arrays)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None

    def finish(self, table: Mapping[str, Any], csv: str, page: str) -> None:
        """Write the table in its three forms; study.json makes the study finished."""
        with storage_errors(self.path):
            for folder in (self.path, self.path / "trainings"):
                sweep_temporaries(folder, older_than_s=0.0)
        write_text(self.path / "study.csv", csv)
        write_text(self.path / "study.html", page)
        write_text(self.path / FINAL, to_json(table, indent=1) + "\n")


def _is_array(name: str) -> bool:
    return name in ("values", "losses", "predicted")
