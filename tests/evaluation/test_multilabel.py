"""Multi-label metrics against scikit-learn, and the difference of two classifiers in micro-F1."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from lasttoken.core.errors import DataError
from lasttoken.evaluation.intervals import Difference
from lasttoken.evaluation.multilabel import compute_multilabel_metrics, micro_f1_difference

LABELS = ["joy", "fear", "anger"]


def drawn(seed: int, n: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    truth = random.random((n, 3)) < (0.6, 0.3, 0.05)
    return truth, np.clip(np.round(0.3 * truth + 0.7 * random.random((n, 3)), 1), 0.01, 0.99)  # many equal ones


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_every_metric_is_scikit_learn_s(seed: int, n: int) -> None:
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
def test_the_difference_of_micro_f1_is_that_of_the_two(seed: int) -> None:
    truth, probs = drawn(seed, 50)
    a, b = probs >= 0.4, probs >= 0.7
    difference = micro_f1_difference(truth, a, b)
    value, (low, high) = difference.value, difference.ci95
    one, other = (sk.f1_score(truth, found, average="micro", zero_division=0) for found in (a, b))
    assert value == pytest.approx(one - other)
    assert low <= value <= high
    assert micro_f1_difference(truth, b, a).value == pytest.approx(-value)
    assert micro_f1_difference(truth, a, a) == Difference(0.0, (0.0, 0.0))


def test_copies_of_a_text_widen_the_interval_of_a_difference() -> None:
    truth, probs = drawn(5, 40)
    truth, probs = np.tile(truth, (5, 1)), np.tile(probs, (5, 1))
    a, b = probs >= 0.4, probs >= 0.7
    low, high = micro_f1_difference(truth, a, b).ci95
    wide_low, wide_high = micro_f1_difference(truth, a, b, groups=np.tile(np.arange(40), 5)).ci95
    assert wide_high - wide_low > 1.5 * (high - low)


def test_no_rows_are_an_error() -> None:
    with pytest.raises(DataError, match="at least one row"):
        compute_multilabel_metrics(np.zeros((0, 2), dtype=bool), ["a", "b"], predicted=np.zeros((0, 2), dtype=bool))
