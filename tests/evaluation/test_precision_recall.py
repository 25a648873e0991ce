"""The curve and its area against scikit-learn; the area's derivative against differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from lasttoken.evaluation.precision_recall import MAX_POINTS, Ranking, area_interval, precision_recall_curve

SEEDS = st.integers(0, 10**6)


def rows(seed: int, n: int, n_scores: int) -> tuple[np.ndarray, np.ndarray]:
    """n rows of which the first has the label; few different scores make ties."""
    random = np.random.default_rng(seed)
    has = random.random(n) < 0.4
    has[0] = True
    return has, random.integers(n_scores, size=n) / n_scores


@given(SEEDS, st.integers(1, 40), st.integers(1, 30))
@settings(max_examples=80, deadline=None)
def test_average_precision_equals_scikit_learn(seed: int, n: int, n_scores: int) -> None:
    has, scores = rows(seed, n, n_scores)
    assert Ranking.of(has, scores).average_precision() == pytest.approx(sk.average_precision_score(has, scores))


@given(SEEDS, st.integers(2, 40), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_weighted_average_precision_equals_scikit_learn(seed: int, n: int, n_scores: int) -> None:
    has, scores = rows(seed, n, n_scores)
    weights = np.random.default_rng(seed).gamma(1, size=(n, 2)).astype(np.float32) + 0.01
    ours = Ranking.of(has, scores).drawn(weights, np.zeros(2, dtype=np.float32))
    theirs = [sk.average_precision_score(has, scores, sample_weight=column) for column in weights.T]
    assert ours == pytest.approx(theirs, rel=1e-4)


@given(SEEDS, st.integers(2, 25), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_influence_is_the_derivative_by_a_row_s_weight(seed: int, n: int, n_scores: int) -> None:
    has, scores = rows(seed, n, n_scores)
    step = 1e-5

    def area(row: int, more: float) -> float:
        weights = np.ones(n)
        weights[row] += more
        return float(sk.average_precision_score(has, scores, sample_weight=weights))

    expected = [(area(row, step) - area(row, -step)) / (2 * step) for row in range(n)]
    assert Ranking.of(has, scores).influence() == pytest.approx(expected, abs=1e-6)


def test_both_intervals_agree_where_rows_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    truth = (random.random(4000) < 0.3).astype(np.int64)
    scores = random.normal(size=4000) + 1.5 * truth
    rankings = [Ranking.of(truth == 1, scores), Ranking.of(truth == 0, -scores)]
    value = float(np.mean([ranking.average_precision() for ranking in rankings]))
    drawn = area_interval(rankings, truth, value, 0)
    monkeypatch.setattr("lasttoken.evaluation.precision_recall.MAX_BOOTSTRAP", 0)
    assert area_interval(rankings, truth, value, 0) == pytest.approx(drawn, abs=0.002)


@given(SEEDS, st.integers(1, 60), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_curve_equals_scikit_learn(seed: int, n: int, n_scores: int) -> None:
    has, scores = rows(seed, n, n_scores)
    ours = precision_recall_curve(has, scores)
    precision, recall, thresholds = sk.precision_recall_curve(has, scores)
    reaches_all = np.flatnonzero(recall == 1)[-1]  # theirs goes on to the lowest score, ours ends where all is found
    assert ours.precision == pytest.approx(precision[reaches_all:-1][::-1])
    assert ours.recall == pytest.approx(recall[reaches_all:-1][::-1])
    assert ours.threshold == pytest.approx(thresholds[reaches_all:][::-1])


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    random = np.random.default_rng(0)
    has, scores = random.random(5000) < 0.5, random.random(5000)
    curve = precision_recall_curve(has, scores)
    assert len(curve.recall) <= MAX_POINTS
    assert len(curve.recall) == len(curve.precision) == len(curve.threshold)
    assert curve.recall[-1] == 1.0
    assert curve.threshold[0] == scores[has].max() or curve.threshold[0] == scores.max()
    assert np.diff(curve.recall).max() < 0.02
    for recall, precision, threshold in list(zip(*curve.to_json().values(), strict=True))[::40]:
        assert (recall, precision) == pytest.approx(
            (sk.recall_score(has, scores >= threshold), sk.precision_score(has, scores >= threshold))
        )


def test_without_a_row_that_has_the_label_there_is_no_curve() -> None:
    assert precision_recall_curve([False, False], [0.1, 0.2]).recall == []
