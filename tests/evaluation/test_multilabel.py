"""Figures of several labels a text, against scikit-learn; thresholds against all there are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from lasttoken.core.errors import DataError
from lasttoken.evaluation.multilabel import best_thresholds, compute_multilabel_metrics, micro_f1_difference

LABELS = ["joy", "fear", "anger"]


def drawn(seed: int, n: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    truth = random.random((n, 3)) < (0.6, 0.3, 0.05)
    return truth, np.clip(np.round(0.3 * truth + 0.7 * random.random((n, 3)), 1), 0.01, 0.99)  # many equal ones


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_every_figure_is_scikit_learn_s(seed: int, n: int) -> None:
    truth, probs = drawn(seed, n)
    predicted = probs >= 0.5
    found = compute_multilabel_metrics(truth, LABELS, probs=probs, intervals=True)
    assert found.accuracy == pytest.approx(sk.accuracy_score(truth, predicted))
    assert found.hamming == pytest.approx(sk.hamming_loss(truth, predicted))
    for average in ("micro", "macro"):
        theirs = sk.f1_score(truth, predicted, average=average, zero_division=0)
        assert getattr(found, f"{average}_f1") == pytest.approx(theirs)
    decisions = [sk.log_loss(truth[:, i], probs[:, i], labels=[False, True]) for i in range(3)]
    assert found.loss == pytest.approx(np.mean(decisions))
    occurring = [i for i in range(3) if truth[:, i].any()]
    areas = [sk.average_precision_score(truth[:, i], probs[:, i]) for i in occurring]
    assert (found.mean_average_precision or 0.0) == pytest.approx(np.mean(areas) if areas else 0.0)
    content = found.to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    for name in ("accuracy", "micro_f1", "macro_f1", "hamming", "loss"):
        low, high = content[f"{name}_ci95"]
        assert low <= content[name] <= high


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_thresholds_of_their_own_cost_micro_f1_nothing(seed: int) -> None:
    truth, probs = drawn(seed, 60)
    found = best_thresholds(truth, probs)
    micro = sk.f1_score(truth, probs >= found, average="micro", zero_division=0)
    tried = [sk.f1_score(truth, probs >= t, average="micro", zero_division=0) for t in np.linspace(0, 1, 41)]
    assert micro >= max(tried) - 1e-9


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_one_label_s_threshold_is_as_good_as_any(seed: int) -> None:
    truth, probs = (column[:, :1] for column in drawn(seed, 60))
    best = sk.f1_score(truth, probs >= best_thresholds(truth, probs))
    tried = [sk.f1_score(truth, probs >= t, zero_division=0) for t in np.linspace(0, 1, 41)]
    assert best >= max(tried) - 1e-9


def test_a_label_that_cannot_be_told_is_not_given_to_every_text() -> None:
    random = np.random.default_rng(3)
    truth = np.stack([np.arange(400) % 2 == 0, random.random(400) < 0.05], axis=1)
    probs = np.stack([np.where(truth[:, 0], 0.9, 0.1), random.uniform(0.04, 0.06, 400)], axis=1)
    given_to = probs >= best_thresholds(truth, probs)
    assert (given_to[:, 0] == truth[:, 0]).all()
    assert given_to[:, 1].sum() < 100


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_difference_of_micro_f1_is_that_of_the_two(seed: int) -> None:
    truth, probs = drawn(seed, 50)
    a, b = probs >= 0.4, probs >= 0.7
    value, (low, high) = micro_f1_difference(truth, a, b)
    one, other = (sk.f1_score(truth, found, average="micro", zero_division=0) for found in (a, b))
    assert value == pytest.approx(one - other)
    assert low <= value <= high
    assert micro_f1_difference(truth, b, a)[0] == pytest.approx(-value)
    assert micro_f1_difference(truth, a, a) == (0.0, (0.0, 0.0))


def test_copies_of_a_text_widen_the_interval_of_a_difference() -> None:
    truth, probs = drawn(5, 40)
    truth, probs = np.tile(truth, (5, 1)), np.tile(probs, (5, 1))
    a, b = probs >= 0.4, probs >= 0.7
    _, (low, high) = micro_f1_difference(truth, a, b)
    _, (wide_low, wide_high) = micro_f1_difference(truth, a, b, groups=np.tile(np.arange(40), 5))
    assert wide_high - wide_low > 1.5 * (high - low)


def test_a_rare_label_shares_its_threshold_and_no_rows_are_refused() -> None:
    truth = np.zeros((40, 2), dtype=bool)
    truth[:20, 0], truth[0, 1] = True, True
    probs = np.where(truth, 0.8, 0.2)
    first, rare = best_thresholds(truth, probs)
    assert first == rare == pytest.approx(0.5)
    with pytest.raises(DataError, match="at least one row"):
        compute_multilabel_metrics(np.zeros((0, 2), dtype=bool), ["a", "b"], predicted=np.zeros((0, 2), dtype=bool))
