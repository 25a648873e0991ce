"""Uneven labels: which rows an epoch draws, what each weighs in the loss, and what that does to the probabilities.

    balance        rows of an epoch                              a row weighs       learned as if labels came
    none           all                                           1                  as often as they do
    undersample    of each label as many as of the rarest        1                  equally often
    oversample     of each label as many as of the commonest     1                  equally often
    weights        all                                           N / (K · n)        equally often

What was learned as if the K labels came equally often is corrected to their real frequencies π by adding
log(K · π_k) to logit k (Elkan, "The foundations of cost-sensitive learning", IJCAI 2001; Saerens et al., Neural
Computation 14, 2002). The head's bias takes it in, so that it is there wherever the classifier goes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def epoch_rows(label_ids: NDArray[np.int64], balance: str, seed: int) -> NDArray[np.int64]:
    """The rows that an epoch goes through, in the order of the rows; copies one after the other.

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
    """What a row of each label weighs in the loss, [K]: N / (K · n); 0 for a label without rows.

    >>> [f"{weight:.3f}" for weight in label_weights(np.array([0, 0, 0, 1]), 2)]
    ['0.667', '2.000']
    """
    n_rows = np.bincount(label_ids, minlength=n_labels)
    return np.where(n_rows > 0, len(label_ids) / (n_labels * np.maximum(n_rows, 1)), 0).astype(np.float32)


def prior_shift(n_rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """What is added to the logits [K] of even training, for labels that really come `n_rows` [K] times: log(K · π).

    A label without rows gets that of half a row: what was never seen is rare, not impossible.

    >>> [f"{shift:.3f}" for shift in prior_shift(np.array([3, 1]))]
    ['0.405', '-0.693']
    """
    return np.asarray(np.log(len(n_rows) * np.maximum(n_rows, 0.5) / n_rows.sum()), dtype=np.float32)
