"""What is wrong with a training, in words, with the likely cause. Silence means that nothing known was seen."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lasttoken.evaluation.intervals import Interval
from lasttoken.evaluation.task import SplitMetrics, Task

STILL_FALLING = 0.05  # relative fall of the validation loss in the last epoch above which more epochs may help
SMALL = 30  # rows, below which an accuracy says next to nothing

UNEVEN = 3  # times as many rows of one label as of another, from which a threshold may be what is needed

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Remedies:
    """What may help a classifier that gives one label only.

    Attributes:
        learning_rate, epochs: those of the training.
        rare: the rarest label, when a threshold for it changes answers; None otherwise.
        n_rare, n_rows: its rows in train, and all rows.
        threshold: a probability from which to give it.
    """

    learning_rate: float
    epochs: int
    rare: str | None = None
    n_rare: int = 0
    n_rows: int = 0
    threshold: float = 0.0

    def sentence(self) -> str:
        """What to do, with flags whose values differ from those of the training."""
        rate, epochs = f"{self.learning_rate / 3:.1g}", 2 * self.epochs
        again = f"a smaller --learning-rate, such as {rate}, or more --epochs, such as {epochs}"
        if self.rare is None:
            return (
                f"Its training has collapsed, most often by too high a learning rate, or has hardly begun: try {again}."
            )
        flag = f"--threshold {shlex.quote(f'{self.rare}={self.threshold:g}')}"
        return (
            f"Only {self.n_rare:,} of {self.n_rows:,} train rows are {self.rare!r}, so that it is seldom the most "
            f"probable label. {flag} gives it from that probability on; it works with evaluate and predict, without "
            f"another training. Where that makes too many errors, train with {again}."
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
    """Sentences about a finished training.

    Args:
        splits: the metrics of train, validation and perhaps test.
        headline: the split that the figures are told of.
        n_predicted_labels: how many labels the classifier gives there.
        history: the lines of history.jsonl.
        majority: the metrics of the majority baseline on the headline split.
        remedies: what to advise when it gives one label only.
    """
    told = splits[headline]
    found = [
        _collapse(told, headline, n_predicted_labels, remedies),
        _one_label(told, headline) or _no_better(task, told, headline, majority),
        _small(told, headline),
    ]
    if "validation" in splits and "test" in splits:
        found.append(_too_good(task, splits["validation"], splits["test"]))
    if "train" in splits and "validation" in splits:
        found.append(_overfitted(task, splits["train"], splits["validation"]))
    found.append(_unfinished(history))
    return [sentence for sentence in found if sentence]


def _collapse(metrics: SplitMetrics, split: str, n_predicted_labels: int, remedies: Remedies | None) -> str | None:
    if sum(one.n > 0 for one in metrics.per_label) < 2 or n_predicted_labels > 1:
        return None
    return " ".join(
        [f"The classifier gives one label to every {split} text."] + ([remedies.sentence()] if remedies else [])
    )


def _one_label(metrics: SplitMetrics, split: str) -> str | None:
    found = [one.label for one in metrics.per_label if one.n]
    if len(found) != 1 or len(metrics.labels) == 1:
        return None
    return (
        f"All rows of {split} have the label {found[0]!r}: no figure here tells whether the labels are told apart. "
        f"Give a {split} split with rows of every label."
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
        "there may be too few rows to learn from, labels that the text does not tell, or the wrong text column."
    )


def _small(metrics: SplitMetrics, split: str) -> str | None:
    if metrics.n >= SMALL:
        return None
    return f"{split} has {metrics.n} rows: hardly any figure can be told from so few. Label more, or use --folds 5."


def _too_good(task: Task, validation: SplitMetrics, test: SplitMetrics) -> str | None:
    (ours, (low, _)), (theirs, (_, high)) = _headline(task, validation), _headline(task, test)
    if low <= high:
        return None
    return (
        f"Validation ({ours:.1%}) is much better than test ({theirs:.1%}): test texts are of "
        "another kind or time than those trained on, or validation texts have copies in train (lasttoken audit)."
    )


def _overfitted(task: Task, train: SplitMetrics, validation: SplitMetrics) -> str | None:
    (seen, (low, _)), (unseen, (_, high)) = _headline(task, train), _headline(task, validation)
    if low <= high or seen - unseen < 0.05:
        return None
    return (
        f"Train ({seen:.1%}) is far better than validation ({unseen:.1%}): it has learned rows "
        "by heart. More labelled rows help most; fewer --train-blocks or fewer --epochs may."
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
