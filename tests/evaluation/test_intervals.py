"""Intervals against scipy, published tables, and their own coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from coverage import wilson_coverage
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from lasttoken.evaluation.intervals import (
    draw_weights,
    logit_interval,
    mcnemar_p,
    mean_interval,
    n_draws,
    paired_difference,
    percentile_interval,
    variance_of_sum,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("n_correct", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(n_correct: int, n: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3."""
    assert wilson_interval(n_correct, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=60, deadline=None)
def test_wilson_equals_scipy(counts: tuple[int, int]) -> None:
    n_correct, n = counts
    theirs = binomtest(n_correct, n).proportion_ci(method="wilson")
    assert wilson_interval(n_correct, n) == pytest.approx((theirs.low, theirs.high), abs=1e-7)


def test_wilson_at_the_edges() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 7)[0] == 0.0
    assert wilson_interval(7, 7)[1] == 1.0
    with pytest.raises(ValueError, match="between 0 and n = 7"):
        wilson_interval(8, 7)


@pytest.mark.parametrize(("n", "p"), [(50, 0.8), (300, 0.97)])
def test_the_benchmark_s_coverage_is_that_of_scipy_s_binomial(n: int, p: float) -> None:
    intervals = [wilson_interval(count, n) for count in range(n + 1)]
    expected = sum(binom.pmf(count, n, p) for count, (low, high) in enumerate(intervals) if low <= p <= high)
    assert wilson_coverage(n, p) == pytest.approx(expected)


@pytest.mark.parametrize("n", [50, 100, 200, 500, 1000])
def test_wilson_holds_the_truth_as_often_as_it_says(n: int) -> None:
    shares = np.linspace(0.5, 0.99, 200)
    assert np.mean([wilson_coverage(n, p) for p in shares]) == pytest.approx(0.95, abs=0.007)


def test_weights_of_a_stratum_sum_to_its_rows_and_vary_like_a_mean() -> None:
    strata = np.repeat([7, 3, 9], [40, 10, 1])
    weights = draw_weights(strata, 4000, np.random.default_rng(0))
    assert weights.shape == (51, 4000)
    for label in (7, 3):
        assert weights[strata == label].sum(axis=0) == pytest.approx(np.full(4000, (strata == label).sum()), rel=1e-4)
    values = np.random.default_rng(1).normal(size=10)
    drawn = values @ weights[strata == 3] / 10
    assert drawn.std() == pytest.approx(values.std(ddof=1) / 10**0.5, rel=0.06)


def test_rows_of_rare_labels_are_drawn_together() -> None:
    weights = draw_weights(np.arange(8), 500, np.random.default_rng(0))
    assert weights.sum(axis=0) == pytest.approx(np.full(500, 8.0), rel=1e-4)
    assert (weights.std(axis=1) > 0.5).all()


def test_fewer_draws_where_there_are_many_rows_and_never_below_200() -> None:
    assert (n_draws(100), n_draws(50_000), n_draws(10**9)) == (1000, 400, 200)


def test_an_interval_holds_its_figure() -> None:
    assert percentile_interval(np.linspace(0.2, 0.4, 101), 0.5) == pytest.approx((0.205, 0.5))


def test_the_mean_s_interval_is_student_s_and_the_same_for_the_same_seed() -> None:
    values = np.random.default_rng(3).normal(5, 2, size=400)
    strata = np.zeros(400, dtype=np.int64)
    half = 1.96 * values.std(ddof=1) / 20
    found = mean_interval(values, strata, 0)
    assert found == pytest.approx((values.mean() - half, values.mean() + half), abs=0.04)
    assert found == mean_interval(values, strata, 0) != mean_interval(values, strata, 1)
    many = np.tile(values, 60)
    half = 1.96 * many.std(ddof=1) / len(many) ** 0.5
    assert mean_interval(many, np.zeros(len(many), np.int64), 0) == pytest.approx(
        (many.mean() - half, many.mean() + half)
    )


def test_what_was_never_wrong_may_still_be() -> None:
    low, high = mean_interval(np.zeros(100), np.zeros(100, dtype=np.int64), 0, unseen=2.0)
    assert low == 0
    assert 0.02 < high < 0.1


def test_variance_is_within_strata() -> None:
    values, strata = np.array([0.0, 2.0] * 5 + [10.0, 12.0] * 5), np.repeat([0, 1], 10)
    assert variance_of_sum(values, strata) == pytest.approx(20 * 10 / 9)


def test_the_logit_interval_stays_inside() -> None:
    low, high = logit_interval(0.98, np.random.default_rng(0).normal(size=50) * 0.01, np.zeros(50, dtype=np.int64))
    assert 0 < low < 0.98 < high < 1
    assert logit_interval(1.0, np.zeros(3), np.zeros(3, dtype=np.int64)) == (1.0, 1.0)


def rows_of(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[bool], list[bool]]:
    counts = (both, only_a, only_b, neither)
    a = [right for right, n in zip((True, True, False, False), counts, strict=True) for _ in range(n)]
    b = [right for right, n in zip((True, False, True, False), counts, strict=True) for _ in range(n)]
    return a, b


def tango_score(b: int, c: int, n: int, delta: float) -> float:
    """(b - c - nΔ) / its standard deviation where the difference is Δ, with q from Tango's quadratic equation."""
    p, q, r = 2 * n, -b - c + (2 * n - b + c) * delta, -c * delta * (1 - delta)
    share = (math.sqrt(q * q - 4 * p * r) - q) / (2 * p)
    return float((b - c - n * delta) / math.sqrt(n * (2 * share + delta * (1 - delta))))


@pytest.mark.parametrize("counts", [(43, 0, 1, 0), (59, 0, 0, 2), (80, 12, 5, 3), (10, 30, 2, 8)])
def test_tango_s_interval_is_a_root_of_its_score(counts: tuple[int, int, int, int]) -> None:
    low, high = paired_difference(*rows_of(*counts)).ci95
    n = sum(counts)
    assert tango_score(counts[1], counts[2], n, low) == pytest.approx(1.959964, abs=1e-3)
    assert tango_score(counts[1], counts[2], n, high) == pytest.approx(-1.959964, abs=1e-3)


@given(st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_mcnemar_equals_scipy(n_only_a: int, n_only_b: int) -> None:
    n = n_only_a + n_only_b
    expected = binomtest(n_only_a, n).pvalue if n else 1.0
    assert mcnemar_p(n_only_a, n_only_b) == pytest.approx(expected, rel=1e-8)


@given(st.integers(0, 10**6), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_the_difference_is_that_of_the_accuracies_and_turns_round(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.random(n) < 0.8, random.random(n) < 0.7
    found, turned = paired_difference(a, b), paired_difference(b, a)
    assert found.value == pytest.approx(a.mean() - b.mean())
    low, high = found.ci95
    assert -1 <= low <= found.value <= high <= 1
    assert turned.ci95 == pytest.approx((-high, -low), abs=1e-9)
    assert turned.p_value == found.p_value
    assert (found.n_only_a, found.n_only_b) == (turned.n_only_b, turned.n_only_a)


def test_the_difference_s_interval_is_that_of_the_mean_where_rows_are_many() -> None:
    a, b = rows_of(8000, 900, 600, 500)
    ahead = np.array(a, dtype=float) - b
    half = 1.96 * ahead.std() / 100
    assert paired_difference(a, b).ci95 == pytest.approx((0.03 - half, 0.03 + half), abs=1e-4)


def test_copies_of_a_row_are_no_new_evidence() -> None:
    a, b = rows_of(70, 20, 6, 4)
    once = paired_difference(a, b)
    copied = paired_difference(a * 4, b * 4, groups=[f"text {i}" for i in range(100)] * 4)
    assert copied.value == once.value
    assert copied.ci95 == pytest.approx(once.ci95, abs=1e-9)
    assert copied.p_value == once.p_value
    assert copied.n_only_a == 80
    as_if_independent = paired_difference(a * 4, b * 4)
    assert as_if_independent.p_value is not None
    assert once.p_value is not None
    assert as_if_independent.p_value < once.p_value
    assert paired_difference(a, b, groups=range(100)) == once


def test_the_same_answers_leave_room_for_a_difference() -> None:
    found = paired_difference([True] * 50, [True] * 50)
    assert (found.value, found.p_value) == (0.0, 1.0)
    assert found.ci95 == pytest.approx((-0.0713, 0.0713), abs=1e-3)
    assert found.to_json()["ci95"] == list(found.ci95)


def test_a_difference_needs_rows_that_fit() -> None:
    with pytest.raises(ValueError, match="0, 0 and 0 rows"):
        paired_difference([], [])
    with pytest.raises(ValueError, match="2, 1 and 2 rows"):
        paired_difference([True, False], [True])
