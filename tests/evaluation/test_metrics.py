"""Metrics against scikit-learn, scipy and published tables."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from lasttoken.core.errors import DataError, DivergedError
from lasttoken.evaluation.intervals import wilson_interval
from lasttoken.evaluation.metrics import compute_metrics


@st.composite
def predictions(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    k = draw(st.integers(2, 6))
    ids = st.lists(st.integers(0, k - 1), min_size=1, max_size=40)
    truth = draw(ids)
    predicted = draw(st.lists(st.integers(0, k - 1), min_size=len(truth), max_size=len(truth)))
    return truth, predicted, k


@given(predictions())
@settings(max_examples=80, deadline=None)
def test_counted_metrics_equal_scikit_learn(drawn: tuple[list[int], list[int], int]) -> None:
    truth, predicted, k = drawn
    ours = compute_metrics(truth, [f"label {i}" for i in range(k)], predicted_ids=predicted)
    every = list(range(k))
    precision, recall, f1, n = sk.precision_recall_fscore_support(truth, predicted, labels=every, zero_division=0)
    assert [one.precision for one in ours.per_label] == pytest.approx(precision)
    assert [one.recall for one in ours.per_label] == pytest.approx(recall)
    assert [one.f1 for one in ours.per_label] == pytest.approx(f1)
    assert [one.n for one in ours.per_label] == list(n)
    assert ours.accuracy == pytest.approx(sk.accuracy_score(truth, predicted))
    assert ours.macro_f1 == pytest.approx(sk.f1_score(truth, predicted, average="macro", zero_division=0))
    assert ours.to_json()["confusion"] == sk.confusion_matrix(truth, predicted, labels=every).tolist()
    assert ours.accuracy_ci95 == wilson_interval(int(ours.correct.sum()), len(truth))
    assert ours.loss is None


@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_loss_equals_scikit_learn(seed: int, k: int, n: int) -> None:
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.ones(k), size=n)
    truth = random.integers(k, size=n)
    ours = compute_metrics(truth, [str(i) for i in range(k)], log_probs=np.log(probs))
    assert ours.loss == pytest.approx(sk.log_loss(truth, probs, labels=list(range(k))))
    assert ours.accuracy == sk.accuracy_score(truth, probs.argmax(axis=1))


def test_a_probability_of_zero_costs_a_finite_loss() -> None:
    ours = compute_metrics([0], ["ham", "spam"], log_probs=[[-math.inf, 0.0]])
    assert ours.loss == pytest.approx(-math.log(np.finfo(np.float32).tiny))


def test_predicted_ids_win_over_the_largest_probability() -> None:
    ours = compute_metrics([1, 1], ["ham", "spam"], log_probs=np.log([[0.6, 0.4], [0.6, 0.4]]), predicted_ids=[1, 1])
    assert ours.accuracy == 1.0
    assert ours.loss == pytest.approx(-math.log(0.4))


def test_to_json_is_plain() -> None:
    found = compute_metrics([0, 0, 0, 1, 1], ["ham", "spam"], predicted_ids=[0, 0, 1, 1, 1]).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["confusion"] == [[2, 1], [0, 2]]
    assert found["per_label"]["spam"] == {"n": 2, "precision": 2 / 3, "recall": 1.0, "f1": 0.8}
    assert found["accuracy"] == 0.8
    assert len(found["accuracy_ci95"]) == 2
    assert found["loss"] is None
    assert found["labels"] == ["ham", "spam"]


def test_probabilities_that_are_not_numbers_are_named() -> None:
    with pytest.raises(DivergedError, match="example 1 "):
        compute_metrics([0, 1], ["ham", "spam"], log_probs=[[-1.0, -1.0], [math.nan, -1.0]])


def test_no_examples_are_rejected() -> None:
    with pytest.raises(DataError, match="no examples"):
        compute_metrics([], ["ham", "spam"], predicted_ids=[])


@pytest.mark.parametrize(
    ("truth", "given_", "message"),
    [
        ([0, 1], {"predicted_ids": [0]}, r"\(2,\) and predicted_ids \(1,\)"),
        ([0, 2], {"predicted_ids": [0, 1]}, "between 0 and 1"),
        ([0, -1], {"predicted_ids": [0, 1]}, "between 0 and 1"),
        ([0, 1], {"log_probs": [[0.0], [0.0]]}, r"\[N, K\] = \(2, 2\)"),
        ([0, 1], {}, "log_probs or predicted_ids"),
    ],
)
def test_what_does_not_fit_is_rejected(truth: list[int], given_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_metrics(truth, ["ham", "spam"], **given_)
