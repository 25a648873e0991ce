"""Warnings about a finished training, each with its likely cause and what to try."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lasttoken.evaluation.intervals import Interval
from lasttoken.evaluation.tasks.task import SplitMetrics, Task

STILL_FALLING = 0.05  # relative fall of the validation loss in the last epoch above which more epochs may help
MEMORIZED = 0.15  # of the headline metric, by which train is better than validation; a tail often knows all of train
FEW_ROWS = 30  # below, intervals are too wide for conclusions
UNEVEN = 3  # ratio of the largest to the smallest label from which a threshold may help

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Remedies:
    """What may help a classifier that predicts one label for every text.

    Attributes:
        learning_rate, epochs: those of the training.
        rare: the rarest label, when a threshold for it changes predictions; None otherwise.
        n_rare, n_rows: its train rows, and all train rows.
        threshold: the probability from which to predict it.
    """

    learning_rate: float
    epochs: int
    rare: str | None = None
    n_rare: int = 0
    n_rows: int = 0
    threshold: float = 0.0

    def sentence(self) -> str:
        """Advice, with flags whose values differ from those of the training."""
        rate, epochs = f"{self.learning_rate / 3:.1g}", 2 * self.epochs
        again = f"a smaller --learning-rate, such as {rate}, or more --epochs, such as {epochs}"
        if not self.epochs:  # a linear head, which has neither
            again = "more labelled rows, or --method tail"
        if self.rare is None:
            if not self.epochs:
                return f"The features tell the labels apart too little: try {again}."
            return (
                f"The training collapsed, usually because of a high learning rate, or has barely started: try {again}."
            )
        flag = f"--threshold {shlex.quote(f'{self.rare}={self.threshold:g}')}"
        return (
            f"Only {self.n_rare:,} of {self.n_rows:,} train rows are {self.rare!r}, so it is rarely the most "
            f"probable label. {flag} predicts it from that probability on; evaluate and predict accept the flag, so no "
            f"new training is needed. If that causes too many errors, train with {again}."
        )


def diagnose(
    task: Task,
    splits: Mapping[str, SplitMetrics],
    headline: str,
    n_predicted_labels: int,
    history: Sequence[Line],
    majority: SplitMetrics | None = None,
    remedies: Remedies | None = None,
) -> list[str]:
    """Warnings about a finished training; an empty list means that nothing known was found.

    Args:
        splits: the metrics of train, validation and perhaps test.
        headline: the split whose metrics are reported.
        n_predicted_labels: the number of different labels that the classifier predicts there.
        history: the lines of history.jsonl.
        majority: the metrics of the majority baseline on the headline split.
        remedies: the advice if it predicts one label only.
    """
    reported = splits[headline]
    warnings = [
        _collapse(reported, headline, n_predicted_labels, remedies),
        _one_label(reported, headline) or _no_better(task, reported, headline, majority),
        _few_rows(reported, headline),
    ]
    if "validation" in splits and "test" in splits:
        warnings.append(_too_good(task, splits["validation"], splits["test"]))
    if "train" in splits and "validation" in splits:
        solved = any("C" in line for line in history)  # a logistic regression: no blocks and no epochs
        warnings.append(_overfitted(task, splits["train"], splits["validation"], solved))
    warnings.append(_unfinished(history))
    return [warning for warning in warnings if warning]


def _collapse(metrics: SplitMetrics, split: str, n_predicted_labels: int, remedies: Remedies | None) -> str | None:
    if sum(label.n > 0 for label in metrics.per_label) < 2 or n_predicted_labels > 1:
        return None
    return " ".join(
        [f"The classifier predicts the same label for every {split} text."]
        + ([remedies.sentence()] if remedies else [])
    )


def _one_label(metrics: SplitMetrics, split: str) -> str | None:
    present = [label.label for label in metrics.per_label if label.n]
    if len(present) != 1 or len(metrics.labels) == 1:
        return None
    return (
        f"All rows of {split} have the label {present[0]!r}, so its metrics do not show how well the "
        f"classifier separates labels. Give a {split} split with rows of every label."
    )


def _headline(task: Task, metrics: SplitMetrics) -> tuple[float, Interval]:
    """The headline metric and its interval, of no width where it was not computed."""
    value, interval = getattr(metrics, task.headline), getattr(metrics, f"{task.headline}_ci95")
    return value, interval or (value, value)


def _no_better(task: Task, metrics: SplitMetrics, split: str, majority: SplitMetrics | None) -> str | None:
    if majority is None or _headline(task, metrics)[1][0] > _headline(task, majority)[0]:
        return None
    return (
        f"On {split} the classifier is not clearly better than {task.majority_in_words(majority)}: "
        "there may be too few train rows, the labels may not depend on the text, or the text column may be wrong."
    )


def _few_rows(metrics: SplitMetrics, split: str) -> str | None:
    if metrics.n >= FEW_ROWS:
        return None
    return f"{split} has {metrics.n} rows, which are too few for reliable metrics. Label more rows, or use --folds 5."


def _too_good(task: Task, validation: SplitMetrics, test: SplitMetrics) -> str | None:
    (ours, (low, _)), (theirs, (_, high)) = _headline(task, validation), _headline(task, test)
    if low <= high:
        return None
    return (
        f"Validation ({ours:.1%}) is much better than test ({theirs:.1%}): the test texts "
        "may come from another source or time than the train texts, or validation texts may have copies in train "
        "(check with lasttoken audit)."
    )


def _overfitted(task: Task, train: SplitMetrics, validation: SplitMetrics, solved: bool) -> str | None:
    (seen, (low, _)), (unseen, (_, high)) = _headline(task, train), _headline(task, validation)
    if low <= high or seen - unseen < MEMORIZED:
        return None
    return (
        f"Train ({seen:.1%}) is much better than validation ({unseen:.1%}): the "
        "classifier has memorized train rows. More labelled rows help most"
        + ("." if solved else "; fewer --train-blocks or --epochs may help.")
    )


def _unfinished(history: Sequence[Line]) -> str | None:
    losses = [line["validation_loss"] for line in history if line["kind"] == "epoch" and line.get("validation_loss")]
    if len(losses) < 2 or not np.isfinite(losses).all() or losses[-1] != min(losses):
        return None
    fall = 1 - losses[-1] / losses[-2]
    if fall < STILL_FALLING:
        return None
    return (
        f"The training was still improving (validation loss fell by {fall:.0%} in its last epoch): try more --epochs."
    )
