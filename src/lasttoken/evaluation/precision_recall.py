"""Precision against recall: the curve, the area under it (average precision), and the interval of that area.

    rows by falling score    1  1  0  1  0      (1: has the label)
    precision so far         1  1  ⅔  ¾  ⅗
    recall so far            ⅓  ⅔  ⅔  1  1      area = ⅓·1 + ⅓·1 + ⅓·¾ = average precision

Average precision is scikit-learn's: the mean of the precision over the rows that have the label, equal scores taken
together, without interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lasttoken.evaluation.intervals import Interval, draw_weights, logit_interval, n_draws, percentile_interval

Floats = NDArray[np.float64]

MAX_BOOTSTRAP = 400_000  # rows × labels up to which an area is bootstrapped
MAX_POINTS = 200  # of a curve that is drawn


@dataclass(frozen=True, eq=False)
class Ranking:
    """N rows by falling score, with the last row of each group of equal scores."""

    order: NDArray[np.int64]  # [N]
    has: NDArray[np.bool_]  # [N], in that order: has the label
    ends: NDArray[np.int64]  # [G]

    @classmethod
    def of(cls, has: ArrayLike, scores: ArrayLike) -> Ranking:
        """Rank rows [N] that have a label or not by their scores [N]."""
        values = np.asarray(scores)
        order = np.argsort(-values, kind="stable")
        falls = np.flatnonzero(np.diff(values[order]))
        return cls(order, np.asarray(has, dtype=bool)[order], np.append(falls, len(values) - 1))

    def counts(self) -> tuple[Floats, Floats]:
        """Up to the end of each group of equal scores: rows that have the label, and all rows, both [G]."""
        return np.cumsum(self.has, dtype=np.float64)[self.ends], self.ends.astype(np.float64) + 1

    def average_precision(self) -> float:
        """The area; the label must occur."""
        hits, rows = self.counts()
        return float((np.diff(hits, prepend=0) * hits / rows).sum() / hits[-1])

    def drawn(self, weights: NDArray[np.float32], unseen: NDArray[np.float32]) -> NDArray[np.float32]:
        """The area for draws of row weights [N, draws].

        `unseen` [draws] is the weight of a row that has the label and is ranked last: without
        one the interval of a perfect ranking would have no width.
        """
        sorted_weights = weights[self.order]
        rows = np.cumsum(sorted_weights, axis=0)[self.ends]
        hits = np.cumsum(sorted_weights * self.has[:, None], axis=0)[self.ends]
        area = (np.diff(hits, axis=0, prepend=0) * hits / rows).sum(axis=0)
        area += unseen * (hits[-1] + unseen) / (rows[-1] + unseen)
        return np.asarray(area / (hits[-1] + unseen))

    def influence(self) -> Floats:
        """The derivative of the area by the weight of each row [N], in the original order.

        The sum of its squares estimates the variance (the infinitesimal jackknife: Jaeckel 1972, Bell Laboratories
        memorandum 72-1215-11). It replaces the bootstrap where rows × labels are too many.
        """
        hits, rows = self.counts()
        gained, precision = np.diff(hits, prepend=0), hits / rows
        group = np.searchsorted(self.ends, np.arange(len(self.order)))
        pull = np.where(self.has, precision[group] - self.average_precision(), 0.0)
        pull += np.where(self.has, _from_here_on(gained / rows)[group], 0.0)
        pull -= _from_here_on(gained * hits / rows**2)[group]
        influence = np.empty_like(pull)
        influence[self.order] = pull / hits[-1]
        return influence


def _from_here_on(values: Floats) -> Floats:
    return values[::-1].cumsum()[::-1]


def area_interval(rankings: Sequence[Ranking], strata: NDArray[np.int64], value: float, seed: int) -> Interval:
    """The interval of the mean area of some labels; rows of a stratum are drawn among themselves.

    Computed by bootstrap. Where rows × labels are too many, it comes from the variance of the rows' influence, normal
    on the logit scale.
    """
    n_weights = len(strata) * len(rankings)
    if n_weights > MAX_BOOTSTRAP:
        influence = sum((ranking.influence() for ranking in rankings), np.zeros(len(strata))) / len(rankings)
        return logit_interval(value, influence, strata)
    random = np.random.default_rng(seed)
    weights = draw_weights(strata, n_draws(n_weights), random)
    unseen = random.standard_gamma(1 / max(2, len(rankings)), (len(rankings), weights.shape[1]), dtype=np.float32)
    drawn = np.mean([ranking.drawn(weights, extra) for ranking, extra in zip(rankings, unseen, strict=True)], axis=0)
    return percentile_interval(drawn, value)


@dataclass(frozen=True)
class Curve:
    """The points of a curve, by increasing recall."""

    recall: list[float]
    precision: list[float]
    threshold: list[float]

    def to_json(self) -> dict[str, Any]:
        """JSON types only."""
        return {"recall": self.recall, "precision": self.precision, "threshold": self.threshold}


def precision_recall_curve(has: ArrayLike, scores: ArrayLike, max_points: int = MAX_POINTS) -> Curve:
    """The curve of one label against the others: at most `max_points` points, spread evenly over the recall.

    Args:
        has: [N] bool, which rows have the label.
        scores: [N], its probability.

    Returns:
        Recall, precision and threshold of each point (a row at the threshold counts as predicted); no points if no row
        has the label.
    """
    ranking = Ranking.of(has, scores)
    hits, rows = ranking.counts()
    if not hits[-1]:
        return Curve([], [], [])
    last = int(np.searchsorted(hits, hits[-1]))  # beyond, recall stays 1
    wanted = np.linspace(hits[0], hits[last], max_points)
    kept = (
        np.unique(np.minimum(np.searchsorted(hits[: last + 1], wanted), last))
        if last >= max_points
        else slice(last + 1)
    )
    thresholds = np.asarray(scores, dtype=np.float64)[ranking.order[ranking.ends]]
    return Curve((hits / hits[-1])[kept].tolist(), (hits / rows)[kept].tolist(), thresholds[kept].tolist())
