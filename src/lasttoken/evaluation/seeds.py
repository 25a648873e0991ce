"""Intervals of a metric of several trainings that differ only by their seed: seeds vary, and so do the rows.

    one metric, S values with an interval each   ──► mean_over_seeds        both spreads, added as squares
    values [S, N] of two settings                ──► difference_over_seeds  both spreads, from the paired differences

Seeds and rows are crossed: every training is measured on the same rows. The variance of a mean of values d[s, i] is
that of the row means plus that of the seed means, minus the part that both contain (Owen, "The pigeonhole bootstrap",
Annals of Applied Statistics 1 (2007) 386-411). With few seeds the second part is uncertain, so the quantile
is Student's, with Satterthwaite's degrees of freedom (Biometrics Bulletin 2 (1946) 110-114). Shares are counted as
with one more row for each side, so that equal predictions still have an interval (Agresti and Min, "Simple improved
confidence intervals for comparing matched proportions", Statistics in Medicine 24 (2005) 729-740).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.evaluation.intervals import Interval

Values = NDArray[np.float64]
TWO_SIDED_95 = 0.975


@dataclass(frozen=True)
class SeedMean:
    """A metric of several trainings."""

    mean: float
    sd: float  # of a sample, divided by S - 1; 0 with one seed
    ci95: Interval | None  # None: the metric has no interval

    def to_json(self) -> dict[str, Any]:
        """JSON types only."""
        return {"mean": self.mean, "sd": self.sd, "ci95": list(self.ci95) if self.ci95 else None}


def mean_over_seeds(values: Sequence[float], intervals: Sequence[Interval | None]) -> SeedMean:
    """The mean of a metric over S seeds, and its interval for other seeds and other rows.

    `intervals`: those of each training over the rows. Each side of the interval is the square root of the sum of two
    squares: the mean distance over the rows, and Student's t times the standard error over the seeds.

    >>> mean_over_seeds([0.9], [(0.8, 0.95)])
    SeedMean(mean=0.9, sd=0.0, ci95=(0.8, 0.95))
    """
    of_seeds = np.asarray(values, dtype=np.float64)
    n, mean = len(of_seeds), float(of_seeds.mean())
    sd = float(of_seeds.std(ddof=1)) if n > 1 else 0.0
    if n == 1:
        return SeedMean(mean, sd, intervals[0])
    known = [bounds for bounds in intervals if bounds is not None]
    if len(known) < n:
        return SeedMean(mean, sd, None)
    half = student_quantile(n - 1) * sd / math.sqrt(n)
    distances = np.sqrt(((np.asarray(known) - of_seeds[:, None]) ** 2).mean(axis=0))
    low, high = mean - math.hypot(float(distances[0]), half), mean + math.hypot(float(distances[1]), half)
    return SeedMean(mean, sd, (low, high))


def difference_over_seeds(a: Values, b: Values, groups: NDArray[np.intp], is_share: bool) -> tuple[float, Interval]:
    """The mean of a - b, both [S, N] with S at least 2, and its 95 % interval for other seeds and other rows.

    Args:
        a, b: a value for each seed and row; trainings of the same seed are in the same place.
        groups: [N], rows of one group (copies of a text) have the same number and count as one observation.
        is_share: whether the values are 0 or 1.
    """
    d = a - b
    n_seeds, n_rows = d.shape
    value, of_rows, of_seeds = float(d.mean()), d.mean(axis=0), d.mean(axis=1)
    by_group = np.bincount(np.unique(groups, return_inverse=True)[1], weights=of_rows - value)
    n_groups = len(by_group)
    squares = float((by_group**2).sum()) * n_groups / max(n_groups - 1, 1)
    added = 2 if is_share else 0  # half a row in each cell: both right, only a, only b, neither
    rows = (squares + added / 2) / (n_rows + added) ** 2
    seeds = float(of_seeds.var(ddof=1)) / n_seeds
    rest = d - of_rows - of_seeds[:, None] + value
    shared = float((rest**2).sum()) / ((n_seeds - 1) * max(n_rows - 1, 1) * n_seeds * n_rows)
    variance = max(rows + seeds - shared, rows, seeds)
    freedom = variance**2 / (rows**2 / max(n_groups - 1, 1) + seeds**2 / (n_seeds - 1)) if variance else math.inf
    half, centre = student_quantile(freedom) * math.sqrt(variance), value * n_rows / (n_rows + added)
    return value, (min(centre - half, value), max(centre + half, value))


def student_quantile(freedom: float) -> float:
    """The two-sided 95 % point of Student's t.

    >>> round(student_quantile(4), 3), round(student_quantile(float("inf")), 3)
    (2.776, 1.96)
    """
    from scipy.special import stdtrit

    return float(stdtrit(min(freedom, 1e9), TWO_SIDED_95))
