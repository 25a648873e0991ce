"""A classifier against labelled examples: the truth in its own labels, then the metrics.

A column made only of the classifier's label ids ("0", "1", as chapter 6 writes them) stands for its labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lasttoken.data.files import Examples
from lasttoken.data.splits import label_sets, truth_of
from lasttoken.errors import DataError, one_of
from lasttoken.evaluation.figures import Figures, figures
from lasttoken.predict import Predictor

Say = Callable[[str], None]


def evaluate(
    predictor: Predictor, examples: Examples, say: Say | None = None, progress: Callable[[int], None] | None = None
) -> Figures:
    """The metrics of a classifier on labelled examples, which must have its separator where it has one.

    Raises:
        DataError: no labels, or one that the classifier does not know (the row is named).
    """
    config = predictor.classifier.config
    several = config.multi_label
    truth = match_sets(examples, predictor.labels) if several else match_labels(examples, predictor.labels, say)
    log_probs = predictor.log_probs(predictor.encode(examples.texts), progress)
    predicted = config.decision.decide_each(log_probs) if several else config.decision.decide(log_probs)
    return figures(truth, predictor.labels, log_probs=log_probs, predicted=predicted, intervals=True)


def match_sets(examples: Examples, labels: Sequence[str]) -> NDArray[np.bool_]:
    """Which of the K labels each example has [N, K].

    Raises:
        DataError: see `evaluate`.
    """
    for row, found in enumerate(label_sets(examples), 1):
        if unknown := next((label for label in found if label not in labels), None):
            raise DataError(_unknown(row, unknown, examples, labels))
    return np.asarray(truth_of(examples, labels), dtype=np.bool_)


def match_labels(examples: Examples, labels: Sequence[str], say: Say | None = None) -> NDArray[np.int64]:
    """The label_id of each example [N].

    Raises:
        DataError: see `evaluate`.
    """
    if examples.labels is None:
        raise DataError(
            f"{examples.source or 'the examples'} has no labels to evaluate against; name the column with --label"
        )
    ids = {label: label_id for label_id, label in enumerate(labels)}
    by_id = {str(label_id): label_id for label_id in range(len(labels))}
    found = set(examples.labels)
    if not found & ids.keys() and found <= by_id.keys():
        pairs = ", ".join(f"{label_id} = {label}" for label_id, label in enumerate(labels))
        (say or _silence)(f"the labels of {examples.source or 'the examples'} are the classifier's label ids: {pairs}")
        ids = by_id
    for row, label in enumerate(examples.labels, 1):
        if label not in ids:
            raise DataError(_unknown(row, label, examples, labels))
    return np.array([ids[label] for label in examples.labels], dtype=np.int64)


def _unknown(row: int, label: str, examples: Examples, labels: Sequence[str]) -> str:
    return (
        f"row {row} of {examples.source or 'the examples'} has label {label!r}, which is not one of the classifier's "
        f"{one_of(labels)}; fix the row, or name another column with --label"
    )


def _silence(sentence: str) -> None:
    pass
