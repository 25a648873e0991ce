"""Single-label metrics of a set of predictions, each with its 95 % interval.

    pairs (true, predicted) ──► accuracy, balanced accuracy, macro-F1, MCC; precision, recall, F1 of each label
    probabilities [N, K]    ──► loss, Brier, ECE; average precision of each label, PR-AUC

The training loop, `evaluate`, the baselines and the report use this file, so a metric means the same everywhere.
Conventions are scikit-learn's. Intervals: Wilson's for proportions (accuracy, recall, precision), the bootstrap of rows
within their true label for the others; `benchmarks/coverage.py` measures how often they contain the true value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lasttoken.core.errors import DataError, DivergedError
from lasttoken.evaluation.calibration import ece_interval, expected_calibration_error
from lasttoken.evaluation.confusion import Confusion
from lasttoken.evaluation.intervals import (
    Interval,
    mean_interval,
    percentile_interval,
    percentile_intervals,
    wilson_interval,
)
from lasttoken.evaluation.precision_recall import Ranking, area_interval

LogProbs = NDArray[np.floating[Any]]

SMALLEST_LOG_PROB = math.log(float(np.finfo(np.float32).tiny))  # -87.3: a probability of 0 costs this, not infinity
MAX_CONFUSED = 100  # pairs in to_json


@dataclass(frozen=True)
class LabelMetrics:
    """Metrics of one label against all others; `n` is the number of examples that truly have it.

    A value is None if it was not requested, needs probabilities, or (average precision) the label does not occur.
    """

    label: str
    n: int
    precision: float
    recall: float
    f1: float
    average_precision: float | None = None
    precision_ci95: Interval | None = None
    recall_ci95: Interval | None = None
    f1_ci95: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """The values that are not None, without the label, which is their key."""
        return {name: plain(value) for name, value in vars(self).items() if name != "label" and value is not None}


@dataclass(frozen=True, eq=False)
class Metrics:
    """The metrics of one split of N examples.

    Attributes:
        loss: mean cross-entropy in nats.
        brier: mean over the rows of Σ over the labels of (probability - [it is the label])², between 0 and 2.
        ece: see `calibration`; of the predicted label's probability.
        pr_auc: mean average precision of the labels that occur, each against the others, for two labels as for more.
        mcc: Matthews' correlation coefficient, between -1 and 1.
        balanced_accuracy: mean recall of the labels that occur.
        confusion: [K, K], rows true, columns predicted; None above 200 labels.
        confused: (true label_id, predicted label_id, n) of all errors, the most frequent first.
        correct: [N] bool, which rows are predicted correctly; not in the JSON.

    Without probabilities loss, brier, ece and pr_auc are None. Without `intervals` brier, ece, pr_auc and all intervals
    but the accuracy's are None.
    """

    n: int
    accuracy: float
    accuracy_ci95: Interval
    loss: float | None
    macro_f1: float
    balanced_accuracy: float
    mcc: float
    per_label: list[LabelMetrics]
    confusion: NDArray[np.int64] | None
    confused: list[tuple[int, int, int]]
    correct: NDArray[np.bool_]
    labels: list[str]
    pr_auc: float | None = None
    brier: float | None = None
    ece: float | None = None
    loss_ci95: Interval | None = None
    macro_f1_ci95: Interval | None = None
    balanced_accuracy_ci95: Interval | None = None
    mcc_ci95: Interval | None = None
    pr_auc_ci95: Interval | None = None
    brier_ci95: Interval | None = None
    ece_ci95: Interval | None = None
    added: dict[str, Any] = field(default_factory=dict)  # of the registry, see `added_metrics.py`

    def value(self, name: str) -> float | None:
        """A metric by its name in the registry; None where this task has none, or it was not computed."""
        value: float | None = self.added.get(name, getattr(self, name, None))
        return value

    def to_json(self) -> dict[str, Any]:
        """The metrics as `metrics.json` holds them: JSON types only, with `<name>_ci95` beside each, or null."""
        names = ("accuracy", "loss", "macro_f1", "balanced_accuracy", "mcc", "pr_auc", "brier", "ece")
        values: dict[str, Any] = {"n": self.n}
        for name in names:
            values |= {name: getattr(self, name), f"{name}_ci95": plain(getattr(self, f"{name}_ci95"))}
        return values | {
            "per_label": {label.label: label.to_json() for label in self.per_label},
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "confused": [list(pair) for pair in self.confused[:MAX_CONFUSED]],
            "labels": list(self.labels),
            **self.added,
        }


def plain(value: Any) -> Any:
    """An interval as a list, other values unchanged."""
    return list(value) if isinstance(value, tuple) else value


def compute_metrics(
    label_ids: ArrayLike,
    labels: Sequence[str],
    *,
    log_probs: ArrayLike | None = None,
    predicted_ids: ArrayLike | None = None,
    intervals: bool = False,
    seed: int = 0,
) -> Metrics:
    """The metrics of N predictions over the K labels of the schema.

    Args:
        label_ids: [N] int, the truth.
        labels: the K names, in the schema's order.
        log_probs: [N, K] natural logarithms of the probabilities. They give the loss, and the predictions when
            `predicted_ids` is None (the largest; the first of equals). Clipped at log of the smallest normal float32.
        predicted_ids: [N] int, the predictions, where they are not the largest probability or there is none.
        intervals: whether to compute all metrics and all intervals. Without, only what a training needs at every
            evaluation: counts and the loss.
        seed: of the bootstrap.

    Raises:
        DataError: no examples.
        DivergedError: a log-probability that is not a number.
        ValueError: shapes that do not match, or ids out of range.
    """
    truth = np.asarray(label_ids, dtype=np.int64)
    if truth.size == 0:
        raise DataError("found no examples to compute metrics of; give at least one row with a label")
    scores = None if log_probs is None else _checked_log_probs(log_probs, len(truth), len(labels))
    predicted = _predicted(scores, predicted_ids)
    _check_ids(truth, predicted, len(labels))
    confusion = Confusion.of(truth, predicted, len(labels))
    metrics = _counted(confusion, truth == predicted, labels)
    if scores is not None:
        metrics = replace(metrics, loss=float(row_losses(scores, truth).mean()))
    if intervals:
        metrics = _with_counted_intervals(metrics, confusion, seed)
    if intervals and scores is not None:
        metrics = _with_probabilities(metrics, truth, predicted, scores, seed)
    return metrics


def _checked_log_probs(log_probs: ArrayLike, n: int, k: int) -> LogProbs:
    scores = np.asarray(log_probs)
    scores = scores if scores.dtype in (np.float32, np.float64) else scores.astype(np.float64)
    if scores.shape != (n, k):
        raise ValueError(f"log_probs has shape {scores.shape}; it must be [N, K] = {(n, k)}")
    broken = np.isnan(scores.min(axis=1))
    if broken.any():
        raise DivergedError(
            f"the probabilities of example {int(broken.argmax())} (counted from 0) are not numbers; "
            "the weights have diverged: train again with a smaller learning rate"
        )
    return scores


def _predicted(scores: LogProbs | None, predicted_ids: ArrayLike | None) -> NDArray[np.int64]:
    if predicted_ids is not None:
        return np.asarray(predicted_ids, dtype=np.int64)
    if scores is None:
        raise ValueError("compute_metrics needs log_probs or predicted_ids")
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def _check_ids(truth: NDArray[np.int64], predicted: NDArray[np.int64], k: int) -> None:
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(f"label_ids has shape {truth.shape} and predicted_ids {predicted.shape}; both must be [N]")
    if min(truth.min(), predicted.min()) < 0 or max(truth.max(), predicted.max()) >= k:
        raise ValueError(f"label ids must be between 0 and {k - 1}, for {k} labels")


def _counted(confusion: Confusion, correct: NDArray[np.bool_], labels: Sequence[str]) -> Metrics:
    """The metrics that need only counts, with the accuracy's interval."""
    scores = confusion.scores()
    columns = (confusion.n_true.astype(int), scores.precision, scores.recall, scores.f1)
    rows = zip(labels, *(column.tolist() for column in columns), strict=True)
    n, n_correct = len(correct), int(correct.sum())
    return Metrics(
        n=n,
        accuracy=n_correct / n,
        accuracy_ci95=wilson_interval(n_correct, n),
        loss=None,
        macro_f1=float(scores.macro_f1),
        balanced_accuracy=float(scores.balanced_accuracy),
        mcc=float(scores.mcc),
        per_label=[LabelMetrics(*row) for row in rows],
        confusion=confusion.dense(),
        confused=confusion.confused(),
        correct=correct,
        labels=list(labels),
    )


def _with_counted_intervals(metrics: Metrics, confusion: Confusion, seed: int) -> Metrics:
    drawn = confusion.drawn(seed)
    f1 = percentile_intervals(drawn.f1, confusion.scores().f1)
    counts = zip(confusion.hits.astype(int).tolist(), confusion.n_predicted.astype(int).tolist(), strict=True)
    return replace(
        metrics,
        macro_f1_ci95=percentile_interval(drawn.macro_f1, metrics.macro_f1),
        balanced_accuracy_ci95=percentile_interval(drawn.balanced_accuracy, metrics.balanced_accuracy),
        mcc_ci95=percentile_interval(drawn.mcc, metrics.mcc),
        per_label=[
            replace(
                label,
                precision_ci95=wilson_interval(hits, n_predicted),
                recall_ci95=wilson_interval(hits, label.n),
                f1_ci95=interval,
            )
            for label, (hits, n_predicted), interval in zip(metrics.per_label, counts, f1, strict=True)
        ],
    )


def _with_probabilities(
    metrics: Metrics, truth: NDArray[np.int64], predicted: NDArray[np.int64], scores: LogProbs, seed: int
) -> Metrics:
    """Add the metrics that need probabilities, with their intervals."""
    losses, briers, other = row_losses(scores, truth), _briers(scores, truth), _runner_up(scores)
    confidence = np.exp(scores[np.arange(len(truth)), predicted].astype(np.float64))
    rankings = {i: Ranking.of(truth == i, scores[:, i]) for i in np.unique(truth).tolist()}
    areas = {i: ranking.average_precision() for i, ranking in rankings.items()}
    pr_auc = float(np.mean(list(areas.values())))
    return replace(
        metrics,
        loss_ci95=mean_interval(losses, truth, seed, float(np.median(row_losses(scores, other)))),
        brier=float(briers.mean()),
        brier_ci95=mean_interval(briers, truth, seed, float(np.median(_briers(scores, other)))),
        ece=expected_calibration_error(confidence, metrics.correct),
        ece_ci95=ece_interval(confidence, metrics.correct, truth, seed),
        pr_auc=pr_auc,
        pr_auc_ci95=area_interval(list(rankings.values()), truth, pr_auc, seed),
        per_label=[replace(label, average_precision=areas.get(i)) for i, label in enumerate(metrics.per_label)],
    )


def _runner_up(scores: LogProbs) -> NDArray[np.int64]:
    """The second most probable label [N], the likely truth of a wrong row; the only label where there is one."""
    k = scores.shape[1]
    return np.concatenate(
        [np.argpartition(p, max(0, k - 2), axis=1)[:, max(0, k - 2)] for p, _ in _probs(scores, np.arange(len(scores)))]
    )


def row_losses(scores: LogProbs, truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cross-entropy of each row, [N]."""
    of_truth = scores[np.arange(len(truth)), truth].astype(np.float64)
    return np.asarray(-np.maximum(of_truth, SMALLEST_LOG_PROB))


def _briers(scores: LogProbs, truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Σ (p - y)² = Σ p² - 2 p of the truth + 1, of each row."""
    briers = [
        np.square(probs).sum(axis=1) - 2 * probs[np.arange(len(ids)), ids] + 1 for probs, ids in _probs(scores, truth)
    ]
    return np.concatenate(briers)


def _probs(scores: LogProbs, truth: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Probabilities and truth in batches of rows, so that 10,000 labels do not double the memory."""
    size = max(1, 1_000_000 // scores.shape[1])
    for start in range(0, len(truth), size):
        yield np.exp(scores[start : start + size].astype(np.float64)), truth[start : start + size]
