"""Calibration against scipy's minimiser, numpy's own bins, and logits whose temperature is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax

from lasttoken.evaluation.calibration import (
    T_MAX,
    ece_interval,
    expected_calibration_error,
    fit_temperature,
    fit_temperature_multilabel,
    reliability_bins,
    top_label,
)

SEEDS = st.integers(0, 10**6)


def answers(seed: int, n: int, k: int, scale: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits [n, k], and truth drawn from the probabilities of logits / scale."""
    random = np.random.default_rng(seed)
    logits = scale * random.normal(size=(n, k)) * 2
    probs = softmax(logits / scale, axis=1)
    return logits, (probs.cumsum(axis=1) > random.random((n, 1))).argmax(axis=1)


@given(SEEDS, st.integers(25, 80), st.integers(2, 6), st.floats(0.3, 4))
@settings(max_examples=40, deadline=None)
def test_the_temperature_is_scipy_s(seed: int, n: int, k: int, scale: float) -> None:
    logits, truth = answers(seed, n, k, scale)
    if len(set(truth.tolist())) < 2 or (logits.argmax(axis=1) == truth).all():
        return

    def loss(log_t: float) -> float:
        return float(-log_softmax(logits / math.exp(log_t), axis=1)[np.arange(n), truth].mean())

    found = fit_temperature(logits, truth)
    best = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded", options={"xatol": 1e-9})
    assert loss(math.log(found)) <= best.fun + 1e-9


def test_a_known_temperature_is_found_and_repairs_the_ece() -> None:
    logits, truth = answers(0, 20_000, 4, 3.0)
    found = fit_temperature(logits, truth)
    assert found == pytest.approx(3.0, rel=0.05)
    before, after = (
        expected_calibration_error(*top_label(log_softmax(logits / t, axis=1), truth)) for t in (1.0, found)
    )
    assert before > 0.15
    assert after < 0.02
    assert fit_temperature(log_softmax(logits, axis=1), truth) == pytest.approx(found)


def test_too_little_to_go_by_changes_nothing() -> None:
    logits, truth = answers(0, 19, 3, 2.0)
    assert fit_temperature(logits, truth) == 1.0
    assert fit_temperature(np.tile(logits, (5, 1)), np.zeros(95, dtype=np.int64)) == 1.0
    assert fit_temperature_multilabel(logits, truth[:, None] == np.arange(3)) == 1.0
    assert fit_temperature_multilabel(np.ones((30, 2)), np.ones((30, 2), dtype=bool)) == 1.0


def test_all_right_makes_nothing_surer_and_all_wrong_goes_to_the_bound() -> None:
    logits, _ = answers(0, 100, 3, 1.0)
    assert fit_temperature(logits, logits.argmax(axis=1)) == 1.0
    assert fit_temperature(logits, logits.argmin(axis=1)) == pytest.approx(T_MAX)
    assert fit_temperature_multilabel(logits, logits > 0) == 1.0
    assert fit_temperature_multilabel(logits, logits < 0) == pytest.approx(T_MAX)


def test_a_probability_of_zero_leaves_the_temperature_a_number() -> None:
    log_probs = np.log(np.tile([[1.0, 1e-300], [0.7, 0.3]], (20, 1)))
    log_probs[0] = [0.0, -math.inf]
    assert 0 < fit_temperature(log_probs, np.arange(40) % 2) < math.inf


@given(SEEDS, st.integers(20, 80), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_the_multi_label_temperature_is_scipy_s(seed: int, n: int, k: int) -> None:
    random = np.random.default_rng(seed)
    logits = 4 * random.normal(size=(n, k))
    targets = random.random((n, k)) < expit(logits / 2)
    if targets.all() or not targets.any() or ((logits > 0) == targets).all():
        return

    def loss(log_t: float) -> float:
        scaled = logits / math.exp(log_t)
        return float((np.logaddexp(0, scaled) - targets * scaled).mean())

    best = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded", options={"xatol": 1e-9})
    assert loss(math.log(fit_temperature_multilabel(logits, targets))) <= best.fun + 1e-9


@given(SEEDS, st.integers(1, 400), st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_the_ece_is_the_sum_over_bins_of_equal_mass(seed: int, n: int, k: int) -> None:
    logits, truth = answers(seed, n, k, 1.0)
    log_probs = log_softmax(logits, axis=1)
    confidence, correct = np.exp(log_probs).max(axis=1), log_probs.argmax(axis=1) == truth
    parts = np.array_split(np.argsort(confidence, kind="stable"), max(1, min(15, n // 10)))
    expected = sum(len(part) / n * abs(correct[part].mean() - confidence[part].mean()) for part in parts)
    assert expected_calibration_error(*top_label(log_probs, truth)) == pytest.approx(expected)
    bins = reliability_bins(log_probs, truth)
    assert [one.n for one in bins] == [len(part) for part in parts]
    assert [one.accuracy for one in bins] == pytest.approx([correct[part].mean() for part in parts])
    assert sum(one.n * abs(one.accuracy - one.confidence) for one in bins) / n == pytest.approx(expected)
    assert all(one.accuracy_ci95[0] <= one.accuracy <= one.accuracy_ci95[1] for one in bins)


def test_equal_confidences_may_part_in_the_order_in_which_they_came() -> None:
    log_probs = np.log(np.full((40, 2), 0.5))
    bins = reliability_bins(log_probs, np.repeat([0, 1], 20), n_bins=2)
    assert [(one.n, one.accuracy) for one in bins] == [(20, 1.0), (20, 0.0)]


def test_the_ece_s_interval_reaches_0_only_where_0_is_likely() -> None:
    for scale, t in ((1.0, 1.0), (3.0, 1.0)):
        logits, truth = answers(1, 2000, 3, scale)
        confidence, correct = top_label(log_softmax(logits / t, axis=1), truth)
        low, high = ece_interval(confidence, correct, truth, 0)
        assert low <= expected_calibration_error(confidence, correct) <= high
        assert (low == 0) == (scale == t)


def test_all_right_may_be_as_wrong_as_the_accuracy_s_interval_allows() -> None:
    confidence, truth = np.full(100, 0.999), np.arange(100) % 2
    low, high = ece_interval(confidence, np.ones(100, dtype=bool), truth, 0)
    assert low <= 0.001 + 1e-9
    assert high == pytest.approx(0.999 - 0.9630, abs=1e-3)


def test_to_json_is_plain() -> None:
    one = reliability_bins(np.log([[0.4, 0.6]]), [1])[0]
    assert json.loads(json.dumps(one.to_json(), allow_nan=False)) == one.to_json()
