"""Accuracy on slices of a split, worst first: where is the classifier weak?

by           value
label        each label
length       quarters of the rows by characters
near train   whether a near-duplicate of the text is in train
a column     each value of it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.evaluation.intervals import wilson_interval

MIN_ROWS = 5  # of a slice
MAX_VALUES = 50  # of one column, the most frequent


@dataclass(frozen=True)
class Slice:
    """The rows of a split with one value."""

    by: str
    value: str
    n: int
    accuracy: float
    accuracy_ci95: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """Numbers, strings and lists only."""
        return {**vars(self), "accuracy_ci95": list(self.accuracy_ci95)}


def slice_accuracy(correct: NDArray[np.bool_], keys: Mapping[str, Sequence[str]]) -> list[Slice]:
    """The slices of N rows, the least accurate first, and the larger first where the accuracy is the same.

    `keys`: name → the value of each row [N].

    >>> [(part.value, part.accuracy) for part in slice_accuracy(np.arange(20) < 15, {"half": ["a"] * 10 + ["b"] * 10})]
    [('b', 0.5), ('a', 1.0)]
    """
    slices = []
    for by, values in keys.items():
        names, value_ids = np.unique(np.array(values, dtype=object).astype(str), return_inverse=True)
        n_rows, n_correct = np.bincount(value_ids), np.bincount(value_ids, correct).astype(int)
        for value_id in np.argsort(-n_rows, kind="stable")[:MAX_VALUES].tolist():
            n, right = int(n_rows[value_id]), int(n_correct[value_id])
            if n >= MIN_ROWS:
                slices.append(Slice(by, str(names[value_id]), n, right / n, wilson_interval(right, n)))
    return sorted(slices, key=lambda part: (part.accuracy, -part.n))


def length_quarters(texts: Sequence[str]) -> list[str]:
    """The length range of each text, by quarters of all texts.

    >>> length_quarters(["a", "bb", "ccc", "dddd"])
    ['1 character', '2 characters', '3 characters', '4 characters']
    """
    lengths = np.array([len(text) for text in texts])
    edges = np.quantile(lengths, (0.25, 0.5, 0.75), method="inverted_cdf")
    quarter = np.searchsorted(edges, lengths)
    names = {}
    for index in np.unique(quarter).tolist():
        low, high = int(lengths[quarter == index].min()), int(lengths[quarter == index].max())
        span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        names[index] = f"{span} {'character' if high == 1 else 'characters'}"
    return [names[index] for index in quarter.tolist()]
