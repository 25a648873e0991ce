"""One label a text or any number of them: the same questions, answered by the shape of the truth.

truth    [N] label_ids           [N, K] whether the text has the label
loss     cross-entropy           binary cross-entropy of each label
figures  metrics.py              multilabel.py
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lasttoken.evaluation.calibration import (
    fit_temperature,
    fit_temperature_multilabel,
)
from lasttoken.evaluation.metrics import Metrics, compute_metrics
from lasttoken.evaluation.multilabel import MultiLabelMetrics, compute_multilabel_metrics

Truth = NDArray[np.int64] | NDArray[np.bool_]  # [N], or [N, K]; predictions have the same shape
Figures = Metrics | MultiLabelMetrics


def is_multilabel(truth: Truth) -> bool:
    """Whether a text may have any number of labels."""
    return truth.ndim == 2


def figures(
    truth: Truth,
    labels: Sequence[str],
    *,
    log_probs: NDArray[np.floating],
    predicted: Truth | None = None,
    intervals: bool = False,
) -> Figures:
    """The metrics of N answers, see `compute_metrics` and `compute_multilabel_metrics`.

    Args:
        truth: the truth.
        labels: the K names.
        log_probs: [N, K]; of any number of labels each label's own.
        predicted: the answers; None: the most probable label, or every label that is likelier than not.
        intervals: whether to compute all figures and all intervals.
    """
    if is_multilabel(truth):
        return compute_multilabel_metrics(
            truth, labels, probs=np.exp(log_probs.astype(np.float64)), predicted=predicted, intervals=intervals
        )
    return compute_metrics(truth, labels, log_probs=log_probs, predicted_ids=predicted, intervals=intervals)


def fitted_temperature(logits: NDArray[np.float32], truth: Truth) -> float:
    """The temperature that fits logits [N, K] best."""
    return fit_temperature_multilabel(logits, truth) if is_multilabel(truth) else fit_temperature(logits, truth)


def in_words(answers: Truth, labels: Sequence[str], separator: str | None) -> list[str]:
    """Answers [N] or [N, K] as the names of labels; several of a text joined by the separator.

    >>> in_words(np.array([[True, True], [False, False]]), ("joy", "love"), "|")
    ['joy|love', '']
    """
    if separator is None:
        return [labels[label_id] for label_id in answers.tolist()]
    return [separator.join(labels[label_id] for label_id in np.flatnonzero(row).tolist()) for row in answers]
