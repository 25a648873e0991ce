"""Finished runs side by side: their metrics, and the paired difference of two of them on the same rows.

    runs/a  predictions/test.csv ┐  the same rows?   ──► a table
    runs/b  predictions/test.csv ┘                   ──► paired differences, with interval and exact test

No weights are read and nothing is predicted: each run has its predictions beside its splits. Copies of a text count as
one observation, as in the verdict of a run. Runs are compared by their task's headline metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.columns import SPLIT_COLUMNS, ColumnSpec
from lasttoken.core.config import separator_of
from lasttoken.core.errors import RunError, SettingsError, one_of
from lasttoken.core.metric_registry import metrics_at
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.label_tables import label_counts, truth_of
from lasttoken.data.splitting.near_duplicates import find_duplicates
from lasttoken.data.splitting.splits import SPLIT_NAMES
from lasttoken.evaluation.intervals import Interval
from lasttoken.evaluation.tasks.choice import task_of
from lasttoken.evaluation.tasks.task import Task
from lasttoken.evaluation.verdict import signed_points

COMPARABLE = SPLIT_NAMES[1:]
ANSWER_COLUMNS = ColumnSpec(("predicted",), ("label",))  # of predictions/*.csv


@dataclass(frozen=True)
class RunPredictions:
    """The predictions of a run on a split: the rows with their true labels, and the label predicted for each row."""

    name: str
    rows: Examples
    predicted: list[str]
    metrics: dict[str, Any]  # the split's part of metrics.json
    backbone: str
    seconds: float  # of the whole training

    def to_json(self) -> dict[str, Any]:
        """The run's line of the table."""
        names = ["n", *(metric.name for metric in metrics_at("compare --json"))]
        keys = [key for name in names for key in (name, f"{name}_ci95")]
        values = {key: self.metrics[key] for key in keys if self.metrics.get(key) is not None}
        return {"run": self.name, "backbone": self.backbone, "seconds": round(self.seconds, 1), **values}


@dataclass(frozen=True)
class Pair:
    """Two runs on the same rows; `difference` is the first one's value of `measure` minus the second one's."""

    first: str
    second: str
    measure: str
    difference: float
    ci95: Interval
    p_value: float | None  # exact McNemar test; None of micro-F1
    points: str  # the unit of the difference, times 100

    @property
    def sentence(self) -> str:
        """The conclusion."""
        low, high = self.ci95
        if low > 0 or high < 0:
            better, worse = (self.first, self.second) if low > 0 else (self.second, self.first)
            bounds = sorted((abs(low), abs(high)))
            value = f"{abs(self.difference) * 100:.1f} {self.points} ({bounds[0] * 100:.1f} to {bounds[1] * 100:.1f})"
            return f"{better} is better than {worse} by {value}."
        value = f"{signed_points(self.difference)} {self.points} ({signed_points(low)} to {signed_points(high)})"
        return f"No evidence that {self.first} and {self.second} differ: {value}."

    def to_json(self) -> dict[str, Any]:
        """JSON types only."""
        return {
            **{name: value for name, value in vars(self).items() if name != "points"},
            "ci95": list(self.ci95),
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Comparison:
    """Runs, best first, and pairs of them."""

    split: str
    n: int
    runs: list[RunPredictions]
    pairs: list[Pair]

    def to_json(self) -> dict[str, Any]:
        """JSON types only."""
        runs, pairs = [run.to_json() for run in self.runs], [pair.to_json() for pair in self.pairs]
        return {"split": self.split, "n": self.n, "runs": runs, "pairs": pairs}


def compare_runs(folders: Sequence[Path], split: str = "test", all_pairs: bool = False) -> Comparison:
    """Compare finished runs on the rows of a split: the best with every other, or each pair.

    Raises:
        SettingsError: fewer than two runs, a run named twice, or an unknown split.
        RunError: a run that is not finished or has no predictions on file, or runs measured on different rows.
    """
    if split not in COMPARABLE:
        raise SettingsError(f"--split is {split!r}; use one of {one_of(COMPARABLE)}")
    if len(folders) < 2:
        raise SettingsError("compare needs two runs or more; name another run directory")
    runs = [read_predictions(folder, name, split) for folder, name in zip(folders, _names(folders), strict=True)]
    for other in runs[1:]:
        _check_same_rows(runs[0], other, split)
    task = _task(runs)
    ranked = sorted(runs, key=lambda run: -float(run.metrics[task.headline]))
    groups = find_duplicates(ranked[0].rows.texts).near
    pairs = list(combinations(ranked, 2)) if all_pairs else [(ranked[0], other) for other in ranked[1:]]
    return Comparison(split, len(runs[0].predicted), ranked, [_pair(task, a, b, groups) for a, b in pairs])


def _names(folders: Sequence[Path]) -> list[str]:
    """The name of each run: that of its folder, or the path as the user wrote it where two have the same name."""
    resolved = [folder.resolve() for folder in folders]
    for position, folder in enumerate(resolved):
        if folder in resolved[:position]:
            raise SettingsError(f"{folders[position]} is named twice; name each run once")
    names = [folder.name for folder in resolved]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, folders, strict=True)]


def read_predictions(folder: Path, name: str, split: str) -> RunPredictions:
    """Read the predictions of a finished run from its folder.

    Raises:
        RunError: see `compare_runs`.
    """
    run_dir = RunDir(folder)
    metrics = run_dir.read_metrics()
    rows_file, answers_file = run_dir.splits / f"{split}.csv", run_dir.predictions / f"{split}.csv"
    if split not in metrics.get("splits", {}) or not answers_file.is_file() or not rows_file.is_file():
        raise RunError(
            f"{folder} has no predictions for a {split} split ({answers_file.name} in predictions/); train it again "
            "with this version, with such a split"
        )
    settings = run_dir.read_toml().get("settings", {})
    separator = separator_of(bool(metrics.get("multi_label")), settings.get("label_separator", "|"))
    rows = read_examples(rows_file, SPLIT_COLUMNS, keep_blank=True, separator=separator)
    answers = read_examples(answers_file, ANSWER_COLUMNS, keep_blank=True, separator=separator)
    if answers.labels != rows.labels:
        raise RunError(f"{answers_file} does not belong to {rows_file}; one of them was changed")
    headline = task_of((), separator).headline
    if metrics["splits"][split].get(headline) is None:
        raise RunError(f"{folder / 'metrics.json'}: splits.{split}.{headline} is missing; was it changed?")
    seconds = float(sum(metrics.get("timing_s", {}).values()))
    backbone = str(settings.get("backbone", ""))
    return RunPredictions(name, rows, answers.texts, metrics["splits"][split], backbone, seconds)


def _check_same_rows(first: RunPredictions, other: RunPredictions, split: str) -> None:
    a, b = ([*zip(run.rows.texts, run.rows.labels or [], strict=True)] for run in (first, other))
    if a == b:
        return
    advice = f"give both runs the same {split} file (train --test FILE, or a folder of splits)"
    if len(a) != len(b):
        raise RunError(f"{first.name} was measured on {len(a):,} {split} rows and {other.name} on {len(b):,}; {advice}")
    differ = [row for row, (row_a, row_b) in enumerate(zip(a, b, strict=True), 1) if row_a != row_b]
    raise RunError(
        f"{first.name} and {other.name} were measured on different {split} rows: {len(differ):,} of {len(a):,} differ, "
        f"the first is row {differ[0]}; {advice}"
    )


def _task(runs: Sequence[RunPredictions]) -> Task:
    """The task of runs on the same rows, over every label that is true or given in any of them."""
    separator = runs[0].rows.separator
    cells = [label for run in runs for labels in (run.rows.labels or [], run.predicted) for label in labels]
    return task_of(list(label_counts(Examples(cells, cells, separator=separator))), separator)


def _pair(task: Task, a: RunPredictions, b: RunPredictions, groups: NDArray[np.intp]) -> Pair:
    predicted = [Examples(run.predicted, run.predicted, separator=task.separator) for run in (a, b)]
    truth, predicted_a, predicted_b = (truth_of(examples, task.labels) for examples in (a.rows, *predicted))
    difference = task.difference(truth, predicted_a, predicted_b, groups)
    return Pair(a.name, b.name, task.headline, difference.value, difference.ci95, difference.p_value, task.points)
