"""Metrics with a function of their own: which are computed, and their bootstrap intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lasttoken.core.metric_registry import METRICS, Metric
from lasttoken.evaluation.added_metrics import added_metrics, computed_metrics
from lasttoken.evaluation.intervals import wilson_interval


def accuracy(truth: NDArray[Any], log_probs: NDArray[Any], predicted: NDArray[Any]) -> float:
    return float((truth == predicted).mean())


def test_only_metrics_of_the_task_and_the_occasion_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert computed_metrics("single-label", everything=True) == {}
    late = Metric(
        name="late", title="late", direction="max", compute=accuracy, places=("card",), kinds=("multi-label",)
    )
    monkeypatch.setitem(METRICS, "late", late)
    assert computed_metrics("single-label", everything=True) == {}
    assert computed_metrics("multi-label", everything=False) == {}
    assert computed_metrics("multi-label", everything=True) == {"late": accuracy}


def test_the_bootstrap_interval_is_near_wilsons() -> None:
    truth = np.arange(400) % 2
    predicted = np.where(np.arange(400) < 320, truth, 1 - truth)
    values = added_metrics({"toy": accuracy}, (truth, np.zeros((400, 2)), predicted), intervals=True)
    assert values["toy"] == 0.8
    assert values["toy_ci95"] == pytest.approx(wilson_interval(320, 400), abs=0.015)
    assert "toy_ci95" not in added_metrics({"toy": accuracy}, (truth, np.zeros((400, 2)), predicted), intervals=False)
