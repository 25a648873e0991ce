"""The columns that scoring adds to the rows of a file.

Answer ──► predicted_label  predicted_score  probs                     truncated
           spam             0.981234         {"spam": 0.981234, …}     false
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lasttoken.classifier.classifier import ClassifierConfig
from lasttoken.classifier.encoding import Encoded
from lasttoken.classifier.predict import PROBABILITY_DECIMALS, answers_of

LABEL, SCORE, PROBS, TRUNCATED = "predicted_label", "predicted_score", "probs", "truncated"
ADDED = (LABEL, SCORE, PROBS, TRUNCATED)
FEW_LABELS, TOP_OF_MANY = 10, 5  # up to 10 labels all probabilities are written, of more labels the 5 largest


@dataclass(frozen=True)
class ScoredRows:
    """The added columns of N rows."""

    labels: list[str | None]  # several labels of a text are joined by the separator; None: no label is given
    scores: list[float]  # of the label; without one, of the most probable label
    probs: list[dict[str, float]]  # of the most probable labels, the most probable first
    truncated: list[bool]


def score_rows(
    log_probs: NDArray[np.float32], encoded: Encoded, config: ClassifierConfig, top_k: int | None = None
) -> ScoredRows:
    """The added columns for texts with log_probs [N, K]. `top_k` None: all of few labels, else the most probable."""
    top_k = top_k or (None if len(config.labels) <= FEW_LABELS else TOP_OF_MANY)
    answers = answers_of(
        log_probs,
        encoded.lengths,
        encoded.cut,
        config,
        decimals=PROBABILITY_DECIMALS,
        top_k=top_k,
        rank_rounded=False,
    )
    separator = config.separator or ""
    return ScoredRows(
        [separator.join(answer.labels) or None for answer in answers],
        [answer.score for answer in answers],
        [dict(answer.ranked) for answer in answers],
        [answer.truncated for answer in answers],
    )


def added_names(taken: Sequence[str]) -> list[str]:
    """The names of the added columns; underscores are appended to names that the input has already.

    >>> added_names(["text", "probs"])
    ['predicted_label', 'predicted_score', 'probs_', 'truncated']
    """
    names = []
    for name in ADDED:
        while name in taken:
            name += "_"
        names.append(name)
    return names
