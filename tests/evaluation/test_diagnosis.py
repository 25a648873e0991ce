"""Warnings about a finished training: each appears where it should, and none for a good training."""

from __future__ import annotations

from typing import Any

import numpy as np

from lasttoken.evaluation.diagnosis import Remedies, diagnose
from lasttoken.evaluation.metrics import Metrics, compute_metrics
from lasttoken.evaluation.tasks.single_label import SingleLabel

TASK = SingleLabel(("ham", "spam"))
TRUTH = np.arange(400) % 2
GOOD = [{"kind": "epoch", "validation_loss": 0.9}] * 2


def metrics_of(predicted: Any, truth: Any = TRUTH) -> Metrics:
    return compute_metrics(truth, ["ham", "spam"], predicted_ids=predicted)


def test_a_good_training_has_no_warnings() -> None:
    good, majority = metrics_of(TRUTH), metrics_of(np.zeros(400, int))
    assert diagnose(TASK, {"train": good, "validation": good, "test": good}, "test", 2, GOOD, majority) == []


def test_a_collapsed_classifier_gets_four_warnings() -> None:
    good, collapsed = metrics_of(TRUTH), metrics_of(np.zeros(400, int))
    falling = [{"kind": "epoch", "validation_loss": loss} for loss in (0.9, 0.6, 0.4)]
    splits = {"train": good, "validation": good, "test": collapsed}
    warnings = diagnose(TASK, splits, "test", 1, falling, collapsed, Remedies(3e-4, 2, "spam", 7, 90, 0.2))
    assert len(warnings) == 4
    collapse, no_better, too_good, unfinished = warnings
    assert "--threshold spam=0.2" in collapse
    assert "50.0%" in no_better
    assert "100.0%" in too_good
    assert "--epochs" in unfinished


def test_memorized_rows_and_few_rows_are_named() -> None:
    truth = np.arange(20) % 2
    few = metrics_of(np.where(np.arange(20) < 10, truth, 1 - truth), truth)
    warnings = diagnose(TASK, {"train": metrics_of(TRUTH), "validation": few}, "validation", 2, GOOD)
    assert any("20 rows" in warning for warning in warnings)
    assert any("--train-blocks" in warning for warning in warnings)


def test_a_split_of_one_label_is_named() -> None:
    alone = metrics_of(np.zeros(40, int), np.zeros(40, int))
    (warning,) = diagnose(TASK, {"test": alone}, "test", 1, [], alone)
    assert "'ham'" in warning


def test_a_linear_head_that_predicts_one_label_is_not_told_to_change_its_epochs() -> None:
    for remedies in (Remedies(0.0, 0), Remedies(0.0, 0, "spam", 3, 100, 0.2)):
        assert "--epochs" not in remedies.sentence()
        assert "--method tail" in remedies.sentence()
