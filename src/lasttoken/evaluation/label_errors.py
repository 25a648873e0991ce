"""Likely label errors, by confident learning on out-of-fold probabilities.

    t_j   = mean p(j) over the rows labelled j                              the threshold of label j
    C_ij  = rows labelled i with p(j) >= t_j, counted at the most probable such j        the confident joint
    Q_ij  = C_ij · n_i / Σ_j C_ij            the same, each label's rows adding up to its count n_i

The rows counted off the diagonal of Q are the estimated errors; the rows are ranked by their margin, p(given) less
the largest other p, the most negative first.
Source: Northcutt, Jiang, Chuang 2021, *Confident Learning: Estimating Uncertainty in Dataset Labels*, sections 3.1
and 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Suspects:
    """All rows ranked by how likely their label is wrong, and the estimated number of wrong labels."""

    order: NDArray[np.int64]  # [N], row numbers, the most suspect first
    margins: NDArray[np.float64]  # [N], by row number: p(given) - max other p, from -1 to 1
    suggested: NDArray[np.int64]  # [N], by row number: the most probable label_id other than the given one
    joint: NDArray[np.float64]  # [K, K], rows estimated to be given label i and truly j; adds up to N

    @property
    def n_estimated(self) -> int:
        """Estimated number of wrong labels."""
        return round(float(self.joint.sum() - self.joint.trace()))


def rank_suspects(log_probs: NDArray[np.float32], label_ids: NDArray[np.int64]) -> Suspects:
    """Rank rows by out-of-fold log-probabilities [N, K], K >= 2, against their given labels [N]."""
    probs = np.exp(log_probs.astype(np.float64))
    rows = np.arange(len(probs))
    others = probs.copy()
    others[rows, label_ids] = -np.inf
    margins = probs[rows, label_ids] - others.max(1)
    order = np.argsort(margins, kind="stable")
    return Suspects(order, margins, others.argmax(1), confident_joint(probs, label_ids))


def confident_joint(probs: NDArray[np.float64], label_ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Estimated rows of each pair (given label, true label), [K, K]; each given label's add up to its count.

    A label whose rows are all below every threshold counts as correct.
    """
    n_labels = probs.shape[1]
    counts = np.bincount(label_ids, minlength=n_labels)
    own = np.bincount(label_ids, probs[np.arange(len(probs)), label_ids], n_labels)
    thresholds = np.where(counts > 0, own / np.maximum(counts, 1), np.inf)
    above = np.where(probs >= thresholds, probs, -np.inf)
    sure = np.isfinite(above.max(1))
    joint = np.zeros((n_labels, n_labels))
    np.add.at(joint, (label_ids[sure], above[sure].argmax(1)), 1)
    empty = joint.sum(1) == 0
    joint[empty, empty] = 1
    return np.asarray(joint * (counts / joint.sum(1))[:, None])
