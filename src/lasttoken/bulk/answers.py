"""What scoring adds to a row, made for a window of rows at once.

log_probs [N, K] ──► predicted_label  predicted_score  probs                     truncated
                     spam             0.981234         {"spam": 0.981234, …}     false
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lasttoken.classifier.classifier import ClassifierConfig
from lasttoken.classifier.predict import PROBABILITY_DECIMALS

LABEL, SCORE, PROBS, TRUNCATED = "predicted_label", "predicted_score", "probs", "truncated"
ADDED = (LABEL, SCORE, PROBS, TRUNCATED)
FEW_LABELS, TOP_OF_MANY = 10, 5  # up to so many labels all probabilities are written, else those of the likeliest


@dataclass(frozen=True)
class Answers:
    """The answers to N rows: lists of length N."""

    labels: list[str | None]  # several of a text joined by the separator; None: no label is given
    scores: list[float]  # of the label; without one, of the most probable
    probs: list[dict[str, float]]  # of the likeliest labels, the likeliest first
    truncated: list[bool]


def answers_of(
    log_probs: NDArray[np.float32], cut: NDArray[np.bool_], config: ClassifierConfig, top_k: int | None = None
) -> Answers:
    """The answers that the classifier gives for log_probs [N, K]; `cut` [N]: which texts lost tokens."""
    labels, task = config.labels, config.task
    probs = np.round(np.exp(log_probs.astype(np.float64)), PROBABILITY_DECIMALS)
    given = task.given_label_ids(log_probs, config.decision)
    best = probs.argmax(1).tolist() if len(probs) else []
    k = top_k or (len(labels) if len(labels) <= FEW_LABELS else TOP_OF_MANY)
    order = np.argsort(-log_probs, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(probs, order, axis=1).tolist()
    return Answers(
        [task.join(ids) or None for ids in given],
        [float(row[ids[0] if ids else at]) for row, ids, at in zip(probs, given, best, strict=True)],
        [
            {labels[label_id]: p for label_id, p in zip(ids, row, strict=True)}
            for ids, row in zip(order.tolist(), values, strict=True)
        ],
        cut.tolist(),
    )


def added_names(taken: Sequence[str]) -> list[str]:
    """The names of the added columns, with underscores behind those that the input has already.

    >>> added_names(["text", "probs"])
    ['predicted_label', 'predicted_score', 'probs_', 'truncated']
    """
    found = []
    for name in ADDED:
        while name in taken:
            name += "_"
        found.append(name)
    return found
