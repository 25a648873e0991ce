"""Fitted thresholds against an exhaustive search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from lasttoken.evaluation.decision import Decision
from lasttoken.evaluation.thresholds import best_threshold, best_thresholds, likely_threshold


def drawn(seed: int, n: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    truth = random.random((n, 3)) < (0.6, 0.3, 0.05)
    return truth, np.clip(np.round(0.3 * truth + 0.7 * random.random((n, 3)), 1), 0.01, 0.99)  # many equal ones


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.integers(0, 1)), min_size=2, max_size=12))
def test_the_best_threshold_has_the_best_macro_f1(rows: list[tuple[float, int]]) -> None:
    p, truth = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    log_probs = np.log(np.stack((1 - p, p), axis=1))

    def macro_f1(rule: Decision) -> float:
        return float(sk.f1_score(truth, rule.decide(log_probs), average="macro", labels=[0, 1], zero_division=0))

    found = best_threshold(log_probs, truth)
    rare = int(np.bincount(truth, minlength=2).argmin())
    tried = [Decision(thresholds=((rare, float(t)),)) for t in np.linspace(0.005, 0.995, 34)]
    assert macro_f1(found) >= max(map(macro_f1, tried)) - 1e-9


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_thresholds_of_their_own_cost_micro_f1_nothing(seed: int) -> None:
    truth, probs = drawn(seed, 60)
    found = best_thresholds(truth, probs)
    micro = sk.f1_score(truth, probs >= found, average="micro", zero_division=0)
    tried = [sk.f1_score(truth, probs >= t, average="micro", zero_division=0) for t in np.linspace(0, 1, 41)]
    assert micro >= max(tried) - 1e-9


@settings(max_examples=10, deadline=None)
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


def test_a_rare_label_shares_its_threshold() -> None:
    truth = np.zeros((40, 2), dtype=bool)
    truth[:20, 0], truth[0, 1] = True, True
    probs = np.where(truth, 0.8, 0.2)
    first, rare = best_thresholds(truth, probs)
    assert first == rare == pytest.approx(0.5)


def test_a_likely_threshold_can_be_typed_and_gives_the_label_to_some_row() -> None:
    probs = np.array([0.031, 0.0234, 0.002])
    assert likely_threshold(np.array([True, False, False]), probs) == 0.027
    assert likely_threshold(np.zeros(3, dtype=bool), probs) == 0.015
