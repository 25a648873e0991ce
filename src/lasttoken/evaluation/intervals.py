"""95 % intervals of proportions, of other metrics, and of the difference of two classifiers.

    a proportion (accuracy, recall)         ──► wilson_interval       Wilson 1927
    any other metric, from bootstrap draws  ──► percentile_interval   rows drawn within their true label
    correct rows of two classifiers         ──► paired_difference     Tango 1998; McNemar 1947, exact

The bootstrap is the Bayesian one (Rubin, "The Bayesian bootstrap", Annals of Statistics 9 (1981) 130-134): a draw
gives each row an exponential weight instead of a count. No row drops out, so every draw has every label.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lasttoken.evaluation.bisection import bracket

Interval = tuple[float, float]

Z_95 = 1.959964  # two-sided 95 % point of the normal distribution
MOST_DRAWS, FEWEST_DRAWS = 1000, 200
FEWEST_IN_STRATUM = 5
MAX_ROWS = 20_000  # above, the mean is treated as normally distributed
MAX_WEIGHTS = 20_000_000  # weights that all draws of one interval may take


def wilson_interval(n_correct: float, n: float, z: float = Z_95) -> Interval:
    """The score interval of a proportion; it stays inside [0, 1] and has a width at 0 and n correct.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927) 209-212:
    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), with p = n_correct / n. Without rows: (0, 1).

    >>> [round(bound, 3) for bound in wilson_interval(287, 300)]
    [0.927, 0.975]

    Raises:
        ValueError: n_correct is not between 0 and n.
    """
    if not 0 <= n_correct <= n:
        raise ValueError(f"n_correct is {n_correct}; it must be between 0 and n = {n}")
    if n == 0:
        return 0.0, 1.0
    p = n_correct / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if n_correct == 0 else (centre - half) / scale
    high = 1.0 if n_correct == n else (centre + half) / scale
    return low, high


def share_right(correct: NDArray[np.bool_]) -> dict[str, Any]:
    """The accuracy of N rows as JSON: n, accuracy (None without rows), and its interval.

    >>> share_right(np.array([True, False]))["accuracy"]
    0.5
    """
    n, n_correct = len(correct), int(correct.sum())
    return {
        "n": n,
        "accuracy": n_correct / n if n else None,
        "accuracy_ci95": list(wilson_interval(n_correct, n)),
    }


def n_draws(n_weights: int) -> int:
    """The number of bootstrap draws of `n_weights` weights each: 1,000, and down to 200 for many weights."""
    return int(np.clip(MAX_WEIGHTS // max(1, n_weights), FEWEST_DRAWS, MOST_DRAWS))


def shrink(n_rows: NDArray[Any]) -> NDArray[np.float64]:
    """The shape parameter of gamma weights for strata of n rows: (n - 2) / n.

    Shares drawn from a Dirichlet distribution of n rows vary as p(1 - p) / (n + 1). An unbiased estimate divides by
    n - 1, which matters for labels of few rows.
    """
    return np.asarray(np.maximum(n_rows - 2, 0.5) / np.maximum(n_rows, 1))


def draw_weights(strata: NDArray[np.int64], draws: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Bootstrap weights [N, draws] of rows; the weights of a stratum (a true label) sum to its number of rows.

    Strata of fewer than 5 rows are merged: a row by itself would always weigh 1.
    """
    ids = _pooled(strata)
    order = np.argsort(ids, kind="stable")
    _, starts, sizes = np.unique(ids[order], return_index=True, return_counts=True)
    shapes = np.repeat(shrink(sizes), sizes).astype(np.float32)
    weights = random.standard_gamma(shapes[:, None], (len(ids), draws), dtype=np.float32)
    sums = np.add.reduceat(weights, starts, axis=0)
    weights *= np.repeat((sizes[:, None] / np.maximum(sums, 1e-30)).astype(np.float32), sizes, axis=0)
    unsorted = np.empty_like(weights)
    unsorted[order] = weights
    return unsorted


def _pooled(strata: NDArray[np.int64]) -> NDArray[np.int64]:
    """Strata as numbers from 0, with strata of few rows merged into one."""
    ids, sizes = np.unique(strata, return_inverse=True, return_counts=True)[1:]
    return np.where(sizes[ids] < FEWEST_IN_STRATUM, len(sizes), ids)


def percentile_interval(drawn: NDArray[Any], value: float) -> Interval:
    """The middle 95 % of the draws [draws] of a metric, widened where needed to contain its `value`."""
    return percentile_intervals(np.asarray(drawn)[:, None], np.array([value]))[0]


def percentile_intervals(drawn: NDArray[Any], values: NDArray[np.float64]) -> list[Interval]:
    """The intervals of K metrics from draws [draws, K] and values [K]."""
    low, high = np.quantile(np.asarray(drawn, dtype=np.float64), (0.025, 0.975), axis=0)
    return list(zip(np.minimum(low, values).tolist(), np.maximum(high, values).tolist(), strict=True))


def mean_interval(
    values: NDArray[np.float64], strata: NDArray[np.int64], seed: int, unseen: float | None = None
) -> Interval:
    """The interval of the mean of N values; rows of a stratum (a true label) are drawn among themselves.

    `unseen` is the value of a wrong row. Half such a row is added to the draws (on average: its weight varies), so that
    the interval has a width even if every row is correct.
    """
    value = float(values.mean())
    if len(values) > MAX_ROWS:
        half = Z_95 * math.sqrt(variance_of_sum(values / len(values), strata))
        return value - half, value + half
    random = np.random.default_rng(seed)
    drawn = np.asarray(values @ draw_weights(strata, n_draws(len(values)), random), dtype=np.float64)
    added = random.standard_gamma(0.5, len(drawn)) if unseen is not None else np.zeros(len(drawn))
    return percentile_interval((drawn + added * (unseen or 0.0)) / (len(values) + added), value)


def logit_interval(value: float, influence: NDArray[np.float64], strata: NDArray[np.int64]) -> Interval:
    """The interval of a metric between 0 and 1 from the influence of each row, normal on the logit scale."""
    if not 0 < value < 1:
        return value, value
    centre = math.log(value / (1 - value))
    half = Z_95 * math.sqrt(variance_of_sum(influence, strata)) / (value * (1 - value))
    return 1 / (1 + math.exp(half - centre)), 1 / (1 + math.exp(-half - centre))


def variance_of_sum(values: NDArray[np.float64], strata: NDArray[np.int64]) -> float:
    """The variance of the sum of N independent values, each with the variance of its stratum."""
    ids = _pooled(strata)
    sizes = np.bincount(ids)
    apart = values - (np.bincount(ids, weights=values) / np.maximum(sizes, 1))[ids]
    return float((apart**2 * (sizes / np.maximum(sizes - 1, 1))[ids]).sum())


@dataclass(frozen=True)
class Difference:
    """By how much predictions A are better than B on the same rows, with its 95 % interval.

    Of accuracies also: `n_only_a` rows that only A predicts correctly, `n_only_b` only B, and `p_value`, McNemar's
    exact test: how likely such an uneven pair of counts, or a more uneven one, is when neither is better.
    `design_effect`: by how much copies among the rows raise the variance; 1 without copies.
    """

    value: float
    ci95: Interval
    n_only_a: int | None = None
    n_only_b: int | None = None
    p_value: float | None = None
    design_effect: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Numbers and lists only."""
        return {
            "value": self.value,
            "ci95": list(self.ci95),
            "n_only_a": self.n_only_a,
            "n_only_b": self.n_only_b,
            "p_value": self.p_value,
        }


def paired_difference(correct_a: ArrayLike, correct_b: ArrayLike, *, groups: ArrayLike | None = None) -> Difference:
    """The difference of two accuracies on the same N rows.

    The interval is the score interval of paired proportions: Tango, "Equivalence test and confidence interval for the
    difference in proportions for the paired-sample design", Statistics in Medicine 17 (1998) 891-908. Rows of one
    group (copies of a text) are not independent. With `groups` the effective number of rows follows from the variance
    between groups (Rao and Scott, "A simple method for the analysis of clustered binary data", Biometrics 48
    (1992) 577-585), and the exact test counts groups: for A, for B, or a draw.

    Args:
        correct_a, correct_b: [N] bool, which rows A and B predict correctly.
        groups: [N] int or str, rows of one group have the same value; None: all rows are independent.

    Raises:
        ValueError: no rows, or different lengths.
    """
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    ids = np.arange(len(a)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if not len(a) or not a.shape == b.shape == ids.shape:
        raise ValueError(
            f"two classifiers and their groups have {len(a)}, {len(b)} and {len(ids)} rows; their lengths must be equal"
        )
    ahead = a.astype(np.int64) - b
    n, n_only_a, n_only_b = len(a), int((ahead > 0).sum()), int((ahead < 0).sum())
    effect = _design_effect(ahead, ids)
    by_group = np.bincount(ids, weights=ahead)
    return Difference(
        value=(n_only_a - n_only_b) / n,
        ci95=_tango(n_only_a / effect, n_only_b / effect, n / effect),
        n_only_a=n_only_a,
        n_only_b=n_only_b,
        p_value=mcnemar_p(int((by_group > 0).sum()), int((by_group < 0).sum())),
        design_effect=effect,
    )


def mcnemar_p(n_only_a: int, n_only_b: int) -> float:
    """The exact two-sided p-value of McNemar's test: the chance that n_only_a + n_only_b fair coins fall so unevenly.

    A test compares it with scipy.stats.binomtest, whose last digit differs: runs stay comparable bit by bit.

    >>> f"{mcnemar_p(8, 1):.4f}"
    '0.0391'
    """
    n, few = n_only_a + n_only_b, min(n_only_a, n_only_b)
    steps = np.log(np.arange(n, n - few, -1.0)) - np.log(np.arange(1.0, few + 1))
    log_counts = np.concatenate(([0.0], np.cumsum(steps)))  # of the ways to get 0 … few of n
    return min(1.0, 2 * float(np.exp(log_counts - n * math.log(2)).sum()))


def _design_effect(ahead: NDArray[np.int64], ids: NDArray[np.int64]) -> float:
    """The design effect: the variance of the mean with groups over that without; at least 1."""
    sizes = np.bincount(ids)
    apart = ahead - ahead.mean()
    alone = float((apart**2).sum())
    if alone == 0:
        return float((sizes**2).sum() / len(ids))
    return max(1.0, float((np.bincount(ids, weights=apart) ** 2).sum()) / alone)


def _tango(b: float, c: float, n: float) -> Interval:
    """The differences at which the score is ±1.96."""
    value = (b - c) / n
    low = _root(lambda delta: _score(b, c, n, delta) - Z_95, -1.0, value)
    high = _root(lambda delta: _score(b, c, n, delta) + Z_95, value, 1.0)
    return low, high


def _score(b: float, c: float, n: float, delta: float) -> float:
    """Tango's z of the hypothesis that the difference is delta; it falls as delta rises."""
    half = (2 * n - b + c) * delta - b - c
    q = (math.sqrt(max(0.0, half * half + 8 * n * c * delta * (1 - delta))) - half) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    apart = b - c - n * delta
    return apart / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, apart) if apart else 0.0


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    low, high = bracket(falling, low, high, 60)
    return (low + high) / 2
