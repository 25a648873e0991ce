"""Accuracy on parts of a split, worst first: where is the classifier weak?

by           value
label        each label
length       quarters of the rows by characters
near train   whether a text like it is in train
a column     each value of it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.evaluation.intervals import wilson_interval

SMALLEST = 5  # rows; of fewer, an accuracy says nothing
MOST_VALUES = 50  # of one column; the commonest


@dataclass(frozen=True)
class Slice:
    """One part of a split."""

    by: str
    value: str
    n: int
    accuracy: float
    accuracy_ci95: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """Numbers, strings and lists only."""
        return {**vars(self), "accuracy_ci95": list(self.accuracy_ci95)}


def slice_accuracy(correct: NDArray[np.bool_], keys: Mapping[str, Sequence[str]]) -> list[Slice]:
    """The slices of N rows, the least accurate first; of equally accurate ones the larger.

    `keys`: what it is sliced by → the value of each row [N].

    >>> [(one.value, one.accuracy) for one in slice_accuracy(np.arange(20) < 15, {"half": ["a"] * 10 + ["b"] * 10})]
    [('b', 0.5), ('a', 1.0)]
    """
    found = []
    for by, values in keys.items():
        names, at = np.unique(np.array(values, dtype=object).astype(str), return_inverse=True)
        n_rows, n_correct = np.bincount(at), np.bincount(at, correct).astype(int)
        for place in np.argsort(-n_rows, kind="stable")[:MOST_VALUES].tolist():
            n, right = int(n_rows[place]), int(n_correct[place])
            if n >= SMALLEST:
                found.append(Slice(by, str(names[place]), n, right / n, wilson_interval(right, n)))
    return sorted(found, key=lambda one: (one.accuracy, -one.n))


def length_quarters(texts: Sequence[str]) -> list[str]:
    """For each text, the quarter of the texts that it is in by its length.

    >>> length_quarters(["a", "bb", "ccc", "dddd"])
    ['1 character', '2 characters', '3 characters', '4 characters']
    """
    lengths = np.array([len(text) for text in texts])
    edges = np.quantile(lengths, (0.25, 0.5, 0.75), method="inverted_cdf")
    quarter = np.searchsorted(edges, lengths)
    names = {}
    for place in np.unique(quarter).tolist():
        low, high = int(lengths[quarter == place].min()), int(lengths[quarter == place].max())
        span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        names[place] = f"{span} {'character' if high == 1 else 'characters'}"
    return [names[place] for place in quarter.tolist()]
