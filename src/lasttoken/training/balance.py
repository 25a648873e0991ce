"""Imbalanced labels: the rows of an epoch, their weights in the loss, and the correction of the probabilities.

    balance        rows of an epoch                              weight of a row    learned label frequencies
    none           all                                           1                  those of the data
    undersample    of each label as many as of the rarest        1                  equal
    oversample     of each label as many as of the commonest     1                  equal
    weights        all                                           N / (K · n)        equal

Logits that were learned with equal frequencies of the K labels are corrected to the real frequencies π by adding
log(K · π_k) to logit k (Elkan, "The foundations of cost-sensitive learning", IJCAI 2001; Saerens et al., Neural
Computation 14, 2002). The correction becomes part of the head's bias, so every export contains it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def epoch_rows(label_ids: NDArray[np.int64], balance: str, seed: int) -> NDArray[np.int64]:
    """The rows of an epoch in ascending order; copies of a row follow one another.

    >>> epoch_rows(np.array([0, 0, 0, 1]), "oversample", 1).tolist()
    [0, 1, 2, 3, 3, 3]
    """
    if balance not in ("undersample", "oversample"):
        return np.arange(len(label_ids), dtype=np.int64)
    n_rows = np.bincount(label_ids)
    present = np.flatnonzero(n_rows)
    n_each = n_rows[present].min() if balance == "undersample" else n_rows.max()
    rng = np.random.default_rng(seed)
    drawn = []
    for label_id in present:
        rows = np.flatnonzero(label_ids == label_id)
        copies, rest = divmod(int(n_each), len(rows))
        drawn += [np.tile(rows, copies), rng.choice(rows, rest, replace=False)]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def label_weights(label_ids: NDArray[np.int64], n_labels: int) -> NDArray[np.float32]:
    """The weight in the loss of a row of each label, [K]: N / (K · n); 0 for a label without rows.

    >>> [f"{weight:.3f}" for weight in label_weights(np.array([0, 0, 0, 1]), 2)]
    ['0.667', '2.000']
    """
    n_rows = np.bincount(label_ids, minlength=n_labels)
    return np.where(n_rows > 0, len(label_ids) / (n_labels * np.maximum(n_rows, 1)), 0).astype(np.float32)


def prior_shift(n_rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The correction of logits [K] learned with equal label frequencies, log(K · π), for `n_rows` [K] of each label.

    A label without rows counts half a row: a label that was not seen is rare, not impossible.

    >>> [f"{shift:.3f}" for shift in prior_shift(np.array([3, 1]))]
    ['0.405', '-0.693']
    """
    return np.asarray(np.log(len(n_rows) * np.maximum(n_rows, 0.5) / n_rows.sum()), dtype=np.float32)
