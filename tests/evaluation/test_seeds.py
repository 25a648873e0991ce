"""Intervals over seeds and rows: right as often as they promise, never of width zero for a share, and t's quantiles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from lasttoken.evaluation.seeds import difference_over_seeds, mean_over_seeds, student_quantile

N_ROWS, N_SEEDS, N_STUDIES = 120, 4, 300
APART = np.arange(N_ROWS)


@pytest.mark.parametrize("freedom", [1, 2, 4, 19.5, 1e6])
def test_the_quantile_is_students(freedom: float) -> None:
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


def test_the_interval_of_a_mean_adds_both_spreads_as_squares() -> None:
    values, intervals = [0.8, 0.9], [(0.7, 0.85), (0.8, 0.95)]
    summary = mean_over_seeds(values, intervals)
    half = stats.t.ppf(0.975, 1) * np.std(values, ddof=1) / math.sqrt(2)
    assert summary.mean == pytest.approx(0.85)
    assert summary.sd == pytest.approx(np.std(values, ddof=1))
    assert summary.ci95 == pytest.approx((0.85 - math.hypot(0.1, half), 0.85 + math.hypot(0.05, half)))
    assert mean_over_seeds(values, [None, None]).ci95 is None


@pytest.mark.parametrize(("row_sd", "seed_sd"), [(1.0, 0.0), (0.5, 0.3), (0.0, 0.5)])
def test_the_difference_is_inside_its_interval_as_often_as_promised(row_sd: float, seed_sd: float) -> None:
    """Normal differences of 0.2 on rows and seeds, with noise of their own; at least 92 % of 300 intervals hold it."""
    random = np.random.default_rng(5)
    n_inside = 0
    for _ in range(N_STUDIES):
        rows, seeds = random.normal(0, row_sd, (1, N_ROWS)), random.normal(0, seed_sd, (N_SEEDS, 1))
        a = 0.2 + rows + seeds + random.normal(0, 1, (N_SEEDS, N_ROWS))
        _, (low, high) = difference_over_seeds(a, np.zeros_like(a), APART, is_share=False)
        n_inside += low <= 0.2 <= high
    assert n_inside >= 0.92 * N_STUDIES


def test_rows_that_are_copies_count_once() -> None:
    random = np.random.default_rng(6)
    a = random.normal(0, 1, (1, N_ROWS // 4)).repeat(4, axis=1) + random.normal(0, 0.01, (N_SEEDS, N_ROWS))
    groups = np.arange(N_ROWS // 4).repeat(4)
    zeros = np.zeros_like(a)
    alone, grouped = (_width(a, zeros, ids) for ids in (APART, groups))
    assert grouped == pytest.approx(2 * alone, rel=0.1)  # a quarter of the rows, so twice the width


def test_equal_predictions_differ_by_zero_with_an_interval() -> None:
    right = np.ones((N_SEEDS, N_ROWS))
    value, (low, high) = difference_over_seeds(right, right, APART, is_share=True)
    assert value == 0
    assert low == pytest.approx(-high)
    assert 0.005 < high < 0.05


def test_the_sign_of_a_difference_follows_its_sides() -> None:
    random = np.random.default_rng(7)
    a, b = (np.asarray(random.random((N_SEEDS, N_ROWS)) < share, dtype=np.float64) for share in (0.9, 0.6))
    value, (low, high) = difference_over_seeds(a, b, APART, is_share=True)
    back, (other_low, other_high) = difference_over_seeds(b, a, APART, is_share=True)
    assert value == pytest.approx(a.mean() - b.mean())
    assert (back, other_low, other_high) == pytest.approx((-value, -high, -low))
    assert 0 < low < value < high


def _width(a: NDArray[np.float64], b: NDArray[np.float64], groups: NDArray[np.intp]) -> float:
    low, high = difference_over_seeds(a, b, groups, is_share=False)[1]
    return high - low
