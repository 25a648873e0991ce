"""How good a set of predictions is: accuracy with its interval, loss, F1, the confusion matrix.

    labels = ["ham", "spam"]            confusion [K, K]:       predicted
    label_ids     [N]  0 0 0 1 1                              ham  spam
    predicted_ids [N]  0 0 1 1 1              true   ham    [[  2    1 ]
                                                     spam    [  0    2 ]]

Everything but the loss is counted off the confusion matrix. The training loop, `evaluate`, the baselines and
the report share this file, so a figure means the same wherever it stands. Conventions are scikit-learn's:
0/0 is 0, and the macro average is over the labels that occur in truth or prediction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lasttoken.errors import DataError, DivergedError

Z_95 = 1.959964  # two-sided 95 % point of the normal distribution
SMALLEST_LOG_PROB = math.log(float(np.finfo(np.float32).tiny))  # -87.3: a probability of 0 costs this, not infinity


@dataclass(frozen=True)
class LabelMetrics:
    """One label against all others; `n` is how many examples truly have it."""

    label: str
    n: int
    precision: float
    recall: float
    f1: float

    def to_json(self) -> dict[str, Any]:
        """The figures without the label, which is their key."""
        return {"n": self.n, "precision": self.precision, "recall": self.recall, "f1": self.f1}


@dataclass(frozen=True, eq=False)
class Metrics:
    """The figures of one split. `loss` is the mean cross-entropy in nats, None without probabilities."""

    n: int
    accuracy: float
    accuracy_ci95: tuple[float, float]
    loss: float | None
    macro_f1: float
    per_label: list[LabelMetrics]
    confusion: NDArray[np.int64]  # [K, K]: rows true, columns predicted
    labels: list[str]

    def to_json(self) -> dict[str, Any]:
        """As `metrics.json` holds it: numbers, lists and dicts only."""
        return {
            "n": self.n,
            "accuracy": self.accuracy,
            "accuracy_ci95": list(self.accuracy_ci95),
            "loss": self.loss,
            "macro_f1": self.macro_f1,
            "per_label": {one.label: one.to_json() for one in self.per_label},
            "confusion": self.confusion.tolist(),
            "labels": list(self.labels),
        }


def wilson_interval(n_correct: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """The score interval of a proportion; it stays inside [0, 1] and is honest at 0 and n correct.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927) 209-212:
    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), with p = n_correct / n. Of nothing, nothing is known: (0, 1).

    >>> [round(bound, 3) for bound in wilson_interval(287, 300)]
    [0.927, 0.975]

    Raises:
        ValueError: n_correct is not between 0 and n.
    """
    if not 0 <= n_correct <= n:
        raise ValueError(f"n_correct is {n_correct}; it must be between 0 and n = {n}")
    if n == 0:
        return 0.0, 1.0
    p = n_correct / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if n_correct == 0 else (centre - half) / scale
    high = 1.0 if n_correct == n else (centre + half) / scale
    return low, high


def compute_metrics(
    label_ids: ArrayLike,
    labels: Sequence[str],
    *,
    log_probs: ArrayLike | None = None,
    predicted_ids: ArrayLike | None = None,
) -> Metrics:
    """The metrics of N predictions over the K labels of the schema.

    Args:
        label_ids: [N] int, the truth.
        labels: the K names, in the schema's order.
        log_probs: [N, K] natural logarithms of the probabilities. They give the loss, and the predictions when
            `predicted_ids` is None (the largest; the first of equals). Clipped at log of the smallest normal float32.
        predicted_ids: [N] int, the predictions, where they are not the largest probability or there is none.

    Raises:
        DataError: no examples.
        DivergedError: a log-probability that is not a number.
        ValueError: shapes or ids that do not fit each other.
    """
    truth = np.asarray(label_ids, dtype=np.int64)
    if truth.size == 0:
        raise DataError("found no examples to compute metrics of; give at least one row with a label")
    scores = None if log_probs is None else _checked_log_probs(log_probs, len(truth), len(labels))
    predicted = _predicted(scores, predicted_ids)
    confusion = _confusion(truth, predicted, len(labels))
    per_label = _per_label(confusion, labels)
    occurs = (confusion.sum(axis=0) + confusion.sum(axis=1)) > 0
    n, n_correct = len(truth), int(np.trace(confusion))
    return Metrics(
        n=n,
        accuracy=n_correct / n,
        accuracy_ci95=wilson_interval(n_correct, n),
        loss=None if scores is None else _mean_loss(scores, truth),
        macro_f1=float(np.mean([one.f1 for one, counts in zip(per_label, occurs, strict=True) if counts])),
        per_label=per_label,
        confusion=confusion,
        labels=list(labels),
    )


def _checked_log_probs(log_probs: ArrayLike, n: int, k: int) -> NDArray[np.float64]:
    scores = np.asarray(log_probs, dtype=np.float64)
    if scores.shape != (n, k):
        raise ValueError(f"log_probs has shape {scores.shape}; it must be [N, K] = {(n, k)}")
    broken = np.isnan(scores).any(axis=1)
    if broken.any():
        raise DivergedError(
            f"the probabilities of example {int(broken.argmax())} (counted from 0) are not numbers; "
            "the weights have diverged: train again with a smaller learning rate"
        )
    return scores


def _predicted(scores: NDArray[np.float64] | None, predicted_ids: ArrayLike | None) -> NDArray[np.int64]:
    if predicted_ids is not None:
        return np.asarray(predicted_ids, dtype=np.int64)
    if scores is None:
        raise ValueError("compute_metrics needs log_probs or predicted_ids")
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def _confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Counts [K, K] of (true, predicted) pairs."""
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(f"label_ids has shape {truth.shape} and predicted_ids {predicted.shape}; both must be [N]")
    if min(truth.min(), predicted.min()) < 0 or max(truth.max(), predicted.max()) >= k:
        raise ValueError(f"label ids must be between 0 and {k - 1}, for {k} labels")
    return np.bincount(truth * k + predicted, minlength=k * k).reshape(k, k)


def _mean_loss(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    of_truth = scores[np.arange(len(truth)), truth]
    return float(-np.maximum(of_truth, SMALLEST_LOG_PROB).mean())


def _per_label(confusion: NDArray[np.int64], labels: Sequence[str]) -> list[LabelMetrics]:
    n_true, n_predicted, hits = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    return [
        LabelMetrics(
            label=label,
            n=int(n_true[i]),
            precision=_ratio(hits[i], n_predicted[i]),
            recall=_ratio(hits[i], n_true[i]),
            f1=_ratio(2 * hits[i], n_true[i] + n_predicted[i]),  # 2TP / (2TP + FP + FN)
        )
        for i, label in enumerate(labels)
    ]


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0
