"""Counts of (true label, predicted label), and the metrics that need only them, with bootstrap draws.

    labels = ["ham", "spam"]            dense [K, K]:           predicted
    label_ids     [N]  0 0 0 1 1                              ham  spam
    predicted_ids [N]  0 0 1 1 1              true   ham    [[  2    1 ]
                                                     spam    [  0    2 ]]

Only the pairs that occur are kept, so 10,000 labels do not need K² cells. The metrics follow from the hits, true and
predicted counts of each label. Conventions are scikit-learn's: 0/0 is 0, macro-F1 is over the labels that occur in
truth or prediction, balanced accuracy over those that occur in truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lasttoken.evaluation.intervals import n_draws, shrink

LabelCounts = NDArray[np.float64]  # [K], or [draws, K]

MAX_DENSE_LABELS = 200  # up to here the whole matrix is kept and written


@dataclass(frozen=True, eq=False)
class Confusion:
    """The M different pairs of labels, ascending, and the count of each."""

    k: int
    true: NDArray[np.int64]  # [M]
    predicted: NDArray[np.int64]  # [M]
    n: NDArray[np.int64]  # [M]

    @classmethod
    def of(cls, truth: NDArray[np.int64], predicted: NDArray[np.int64], k: int) -> Confusion:
        """Count N pairs of label ids below k."""
        pairs, n = np.unique(truth * k + predicted, return_counts=True)
        return cls(k, pairs // k, pairs % k, n.astype(np.int64))

    @cached_property
    def n_true(self) -> LabelCounts:
        """[K]."""
        return _counts(self.true, self.n, self.k)

    @cached_property
    def n_predicted(self) -> LabelCounts:
        """[K]."""
        return _counts(self.predicted, self.n, self.k)

    @cached_property
    def hits(self) -> LabelCounts:
        """[K]: how often a label was predicted where it is true."""
        right = self.true == self.predicted
        return _counts(self.true[right], self.n[right], self.k)

    def dense(self) -> NDArray[np.int64] | None:
        """The matrix [K, K], rows true, columns predicted; None above MAX_DENSE_LABELS labels."""
        if self.k > MAX_DENSE_LABELS:
            return None
        matrix = np.zeros((self.k, self.k), dtype=np.int64)
        matrix[self.true, self.predicted] = self.n
        return matrix

    def confused(self) -> list[tuple[int, int, int]]:
        """(true label_id, predicted label_id, n) of every error, the most frequent first."""
        wrong = np.flatnonzero(self.true != self.predicted)
        wrong = wrong[np.argsort(-self.n[wrong], kind="stable")]
        return [(int(self.true[i]), int(self.predicted[i]), int(self.n[i])) for i in wrong]

    def scores(self) -> CountScores:
        """The metrics of these counts."""
        return CountScores(self.hits, self.n_predicted, self.n_true, self._occurs)

    @property
    def _occurs(self) -> NDArray[np.bool_]:
        return (self.n_true + self.n_predicted) > 0

    def drawn(self, seed: int) -> CountScores:
        """The metrics of bootstrap draws of the rows, [draws, …]; see `_draw`."""
        draws = n_draws(len(self.n) + 2 * self.k)
        hits, predicted = self._draw(draws, np.random.default_rng(seed))
        return CountScores(hits, predicted, self.n_true, self._occurs)

    def _draw(self, draws: int, random: np.random.Generator) -> tuple[LabelCounts, LabelCounts]:
        """Hits and predicted counts [draws, K] of a Bayesian bootstrap within each true label.

        The weight of a cell is gamma-distributed with its count (the sum of that many exponential weights), corrected
        for small labels (`shrink`). One row is added to each true label, so that intervals have a width even if every
        row is correct: of two labels half a hit and half an error, as in Jeffreys' prior; of many labels nearly in the
        proportion of all rows, so that the mean over labels is not biased. An added error goes to the other labels
        in proportion to how often they are predicted.
        """
        added_hit, added_error = self._added()
        weight = shrink(self.n_true)
        hits = random.standard_gamma(self.hits * weight + added_hit, (draws, self.k))
        spread = random.standard_gamma(added_error, (draws, self.k))
        wrong = self.true != self.predicted
        true, to, n = self.true[wrong], self.predicted[wrong], self.n[wrong]
        errors = random.standard_gamma(n * weight[true], (draws, len(n)))
        scale = self.n_true / np.maximum(hits + spread + _sums(errors, true, self.k), 1e-300)
        hits *= scale
        popular = self.n_predicted + 1 / self.k
        spread *= scale / np.maximum(popular.sum() - popular, 1e-300)
        elsewhere = popular * (spread.sum(axis=1, keepdims=True) - spread)
        return hits, hits + elsewhere + _sums(errors * scale[:, true], to, self.k)

    def _added(self) -> tuple[LabelCounts, LabelCounts]:
        """The fraction of a row that is added to each true label as a hit and as an error, both [K]."""
        occurs = self.n_true > 0
        share = 1 / max(2, int(occurs.sum()))
        accuracy = (self.hits.sum() + 0.5) / (self.n.sum() + 1)
        hit = share + (1 - 2 * share) * accuracy
        return np.where(occurs, hit, 0.0), np.where(occurs & (self.k > 1), 1 - hit, 0.0)


@dataclass(frozen=True, eq=False)
class CountScores:
    """The metrics of counts [K], or of draws of them [draws, K]; `occurs` [K]: the labels of the macro-F1."""

    hits: LabelCounts
    n_predicted: LabelCounts
    n_true: LabelCounts
    occurs: NDArray[np.bool_]

    @property
    def precision(self) -> LabelCounts:
        """[…, K]."""
        return ratio(self.hits, self.n_predicted)

    @property
    def recall(self) -> LabelCounts:
        """[…, K]."""
        return ratio(self.hits, self.n_true)

    @property
    def f1(self) -> LabelCounts:
        """[…, K]: 2TP / (2TP + FP + FN)."""
        return ratio(2 * self.hits, self.n_true + self.n_predicted)

    @property
    def macro_f1(self) -> LabelCounts:
        """[…]."""
        return np.asarray(self.f1[..., self.occurs].mean(axis=-1))

    @property
    def balanced_accuracy(self) -> LabelCounts:
        """[…]: the mean recall of the labels that occur in truth."""
        return np.asarray(self.recall[..., self.n_true > 0].mean(axis=-1))

    @property
    def mcc(self) -> LabelCounts:
        """[…]: Matthews' correlation for K labels; 0 where truth or prediction has one label only.

        Gorodkin, "Comparing two K-category assignments by a K-category correlation coefficient", Computational
        Biology and Chemistry 28 (2004) 367-374.
        """
        n = self.n_true.sum()
        covariance = n * self.hits.sum(axis=-1) - (self.n_true * self.n_predicted).sum(axis=-1)
        spread = (n * n - (self.n_true**2).sum()) * (n * n - (self.n_predicted**2).sum(axis=-1))
        return ratio(covariance, np.sqrt(np.maximum(spread, 0)))


def ratio(part: LabelCounts, whole: LabelCounts) -> LabelCounts:
    """part / whole, and 0 where whole is 0."""
    whole = np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=whole > 0)


def _counts(ids: NDArray[np.int64], n: NDArray[np.int64], k: int) -> LabelCounts:
    return np.bincount(ids, weights=n, minlength=k).astype(np.float64)


def _sums(values: LabelCounts, to: NDArray[np.int64], k: int) -> LabelCounts:
    """The columns of values [draws, M] summed by label: [draws, K]."""
    sums = np.zeros((len(values), k))
    if len(to):
        order = np.argsort(to, kind="stable")
        ids, starts = np.unique(to[order], return_index=True)
        sums[:, ids] = np.add.reduceat(values[:, order], starts, axis=1)
    return sums
