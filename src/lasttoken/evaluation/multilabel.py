"""Multi-label metrics of a set of predictions, each with its 95 % interval.

    targets   [N, K]  1 0 1      micro-F1       over all N·K decisions
    predicted [N, K]  1 0 0      macro-F1       the mean of the labels' F1
                                 accuracy       rows with exactly the true labels
                                 mAP            the mean average precision of the labels that occur

Conventions are scikit-learn's: 0/0 is 0, and the macro average is over all K labels. Intervals: Wilson's for
proportions of rows, the bootstrap of rows for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lasttoken.core.errors import DataError, DivergedError
from lasttoken.evaluation.confusion import ratio
from lasttoken.evaluation.intervals import (
    Difference,
    Interval,
    draw_weights,
    mean_interval,
    n_draws,
    percentile_interval,
    percentile_intervals,
    wilson_interval,
)
from lasttoken.evaluation.metrics import SMALLEST_LOG_PROB, LabelMetrics, plain
from lasttoken.evaluation.precision_recall import Ranking, area_interval

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class MultiLabelMetrics:
    """The metrics of one split of N examples and K labels.

    Attributes:
        accuracy: subset accuracy, the fraction of rows with exactly the true labels.
        hamming: the fraction of the N·K decisions that are wrong.
        loss: mean binary cross-entropy of a decision, in nats.
        mean_average_precision: of the labels that occur; `mAP` in the JSON. None when none does.
        correct: [N] bool, the rows with exactly the true labels; not in the JSON.

    Without probabilities loss and mean_average_precision are None. Without `intervals` mean_average_precision and all
    intervals but the accuracy's are None.
    """

    n: int
    accuracy: float
    accuracy_ci95: Interval
    micro_f1: float
    macro_f1: float
    hamming: float
    per_label: list[LabelMetrics]
    correct: Bools
    labels: list[str]
    loss: float | None = None
    mean_average_precision: float | None = None
    micro_f1_ci95: Interval | None = None
    macro_f1_ci95: Interval | None = None
    hamming_ci95: Interval | None = None
    loss_ci95: Interval | None = None
    mean_average_precision_ci95: Interval | None = None
    added: dict[str, Any] = field(default_factory=dict)  # of the registry, see `added_metrics.py`

    def value(self, name: str) -> float | None:
        """A metric by its name in the registry; None where this task has none, or it was not computed."""
        attribute = {"subset_accuracy": "accuracy", "mAP": "mean_average_precision"}.get(name, name)
        value: float | None = self.added.get(name, getattr(self, attribute, None))
        return value

    def to_json(self) -> dict[str, Any]:
        """The metrics as `metrics.json` holds them: JSON types only, with `<name>_ci95` beside each, or null."""
        values: dict[str, Any] = {"n": self.n}
        for name in ("accuracy", "loss", "micro_f1", "macro_f1", "hamming"):
            values |= {name: getattr(self, name), f"{name}_ci95": plain(getattr(self, f"{name}_ci95"))}
        return values | {
            "subset_accuracy": self.accuracy,
            "subset_accuracy_ci95": plain(self.accuracy_ci95),
            "mAP": self.mean_average_precision,
            "mAP_ci95": plain(self.mean_average_precision_ci95),
            "per_label": {label.label: label.to_json() for label in self.per_label},
            "labels": list(self.labels),
            **self.added,
        }


def compute_multilabel_metrics(
    targets: ArrayLike,
    labels: Sequence[str],
    *,
    probs: ArrayLike | None = None,
    predicted: ArrayLike | None = None,
    thresholds: ArrayLike = 0.5,
    intervals: bool = False,
    seed: int = 0,
) -> MultiLabelMetrics:
    """The metrics of N sets of labels.

    Args:
        targets: [N, K] bool, the truth.
        labels: the K names.
        probs: [N, K] probabilities.
        predicted: [N, K] bool; None: where a probability reaches its threshold.
        thresholds: [K], or one number for all labels.
        intervals: whether to compute mAP and all intervals.
        seed: of the bootstrap.

    Raises:
        DataError: no examples.
        DivergedError: a probability that is not a number.
        ValueError: shapes that do not fit each other, or neither `probs` nor `predicted`.
    """
    truth = np.asarray(targets, dtype=bool)
    if not len(truth):
        raise DataError("found no examples to compute metrics of; give at least one row with its labels")
    scores = None if probs is None else np.asarray(probs, dtype=np.float64)
    if scores is not None and np.isnan(scores).any():
        raise DivergedError("a probability is not a number; the weights have diverged: use a smaller learning rate")
    if predicted is None and scores is None:
        raise ValueError("compute_multilabel_metrics needs probs or predicted")
    predictions = np.asarray(scores >= np.asarray(thresholds) if predicted is None else predicted, dtype=bool)
    for name, matrix in (
        ("targets", truth),
        ("predicted", predictions),
        ("probs", predictions if scores is None else scores),
    ):
        if matrix.shape != (len(truth), len(labels)):
            raise ValueError(f"{name} has shape {matrix.shape}; it must be [N, K] = {(len(truth), len(labels))}")
    metrics = _counted(truth, predictions, labels)
    if scores is not None:
        metrics = replace(metrics, loss=float(row_losses(truth, scores).mean()))
    if intervals:
        metrics = _with_counted_intervals(metrics, truth, predictions, seed)
    if intervals and scores is not None:
        metrics = _with_probabilities(metrics, truth, scores, seed)
    return metrics


def micro_f1_difference(
    targets: ArrayLike, a: ArrayLike, b: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0
) -> Difference:
    """By how much the micro-F1 of predictions `a` is higher than that of `b` on the same rows, with its interval.

    Computed by the paired bootstrap: each draw has the same row weights for both. Rows of one group (copies of a
    text) are drawn together.

    Args:
        targets, a, b: [N, K] bool.
        groups: [N], rows of one group have the same value; None: all rows are independent.
        seed: of the draws.
    """
    truth = np.asarray(targets, dtype=bool)
    ids = np.arange(len(truth)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    random = np.random.default_rng(seed)
    n_groups = int(ids.max()) + 1
    weights = draw_weights(np.zeros(n_groups, dtype=np.int64), n_draws(n_groups), random)
    values, drawn = [], []
    for answers in (np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)):
        of_row = (2 * (truth & answers).sum(axis=1), truth.sum(axis=1) + answers.sum(axis=1))
        hits, both = (np.bincount(ids, weights=counts, minlength=n_groups) for counts in of_row)
        values.append(float(ratio(hits.sum(), both.sum())))
        drawn.append(ratio(*(np.asarray(counts @ weights, dtype=np.float64) for counts in (hits, both))))
    difference = values[0] - values[1]
    return Difference(difference, percentile_interval(drawn[0] - drawn[1], difference))


def _counted(truth: Bools, predictions: Bools, labels: Sequence[str]) -> MultiLabelMetrics:
    hits, n_true, n_predicted = (
        (a & b).sum(axis=0) for a, b in ((truth, predictions), (truth, truth), (predictions, predictions))
    )
    columns = (n_true, ratio(hits, n_predicted), ratio(hits, n_true), ratio(2 * hits, n_true + n_predicted))
    correct = (truth == predictions).all(axis=1)
    return MultiLabelMetrics(
        n=len(truth),
        accuracy=float(correct.mean()),
        accuracy_ci95=wilson_interval(int(correct.sum()), len(truth)),
        micro_f1=float(ratio(2 * hits.sum(), (n_true + n_predicted).sum())),
        macro_f1=float(columns[-1].mean()),
        hamming=float((truth != predictions).mean()),
        per_label=[LabelMetrics(*row) for row in zip(labels, *(column.tolist() for column in columns), strict=True)],
        correct=correct,
        labels=list(labels),
    )


def _with_counted_intervals(
    metrics: MultiLabelMetrics, truth: Bools, predictions: Bools, seed: int
) -> MultiLabelMetrics:
    hits, n_true, n_predicted = _drawn_counts(truth, predictions, seed)
    f1 = ratio(2 * hits, n_true + n_predicted)
    micro = ratio(2 * hits.sum(axis=1), (n_true + n_predicted).sum(axis=1))
    by_label = percentile_intervals(f1, np.array([label.f1 for label in metrics.per_label]))
    counts = zip((truth & predictions).sum(axis=0).tolist(), predictions.sum(axis=0).tolist(), strict=True)
    return replace(
        metrics,
        micro_f1_ci95=percentile_interval(micro, metrics.micro_f1),
        macro_f1_ci95=percentile_interval(f1.mean(axis=1), metrics.macro_f1),
        hamming_ci95=mean_interval(
            (truth != predictions).mean(axis=1), np.zeros(len(truth), dtype=np.int64), seed, 1 / truth.shape[1]
        ),
        per_label=[
            replace(
                label,
                precision_ci95=wilson_interval(n_hits, n_predicted),
                recall_ci95=wilson_interval(n_hits, label.n),
                f1_ci95=interval,
            )
            for label, (n_hits, n_predicted), interval in zip(metrics.per_label, counts, by_label, strict=True)
        ],
    )


def _drawn_counts(truth: Bools, predictions: Bools, seed: int) -> tuple[Floats, Floats, Floats]:
    """Hits, true and predicted counts [draws, K] of bootstrap draws of the rows.

    On average 1 / K of a missed row is added to each label, so that intervals have a width if every row is correct.
    """
    n, k = truth.shape
    random = np.random.default_rng(seed)
    weights = draw_weights(np.zeros(n, dtype=np.int64), n_draws(n), random).T
    missed = random.standard_gamma(1 / max(2, k), (len(weights), k))
    hits, n_true, n_predicted = (
        np.asarray(weights @ counted.astype(np.float32), dtype=np.float64)
        for counted in (truth & predictions, truth, predictions)
    )
    return hits, n_true + missed * truth.any(axis=0), n_predicted


def _with_probabilities(metrics: MultiLabelMetrics, truth: Bools, scores: Floats, seed: int) -> MultiLabelMetrics:
    """Add loss and average precisions, with their intervals."""
    alike = np.zeros(len(truth), dtype=np.int64)
    metrics = replace(metrics, loss_ci95=mean_interval(row_losses(truth, scores), alike, seed))
    occurring = np.flatnonzero(truth.any(axis=0)).tolist()
    if not occurring:
        return metrics
    rankings = {i: Ranking.of(truth[:, i], scores[:, i]) for i in occurring}
    areas = {i: ranking.average_precision() for i, ranking in rankings.items()}
    value = float(np.mean(list(areas.values())))
    return replace(
        metrics,
        mean_average_precision=value,
        mean_average_precision_ci95=area_interval(list(rankings.values()), alike, value, seed),
        per_label=[replace(label, average_precision=areas.get(i)) for i, label in enumerate(metrics.per_label)],
    )


def row_losses(truth: Bools, scores: Floats) -> Floats:
    """The mean binary cross-entropy of each row [N]."""
    of_truth = np.where(truth, scores, 1 - scores)
    with np.errstate(divide="ignore"):
        return np.asarray(-np.maximum(np.log(of_truth), SMALLEST_LOG_PROB).mean(axis=1))
