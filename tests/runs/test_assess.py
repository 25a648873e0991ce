"""A finished training is calibrated on validation; invalid rules are rejected before it starts."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from miniature import plain_settings
from numpy.typing import NDArray
from run_folders import read_metrics, train

from lasttoken.core.errors import SettingsError
from lasttoken.evaluation.tasks import SingleLabel, Task
from lasttoken.runs.assess import check_judging


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"threshold": "spma=0.9"}, "'spma'"),
        ({"threshold": "spam@recall=0.9", "cost": "spam:ham=5"}, "--cost"),
        ({"threshold": "auto,spam@recall=0.9"}, "auto"),
        ({"answers": "spam=yes,eggs=no"}, "'ham', 'spam'"),
    ],
)
def test_rules_and_answers_of_other_labels_are_rejected(changes: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(named)):
        check_judging(replace(plain_settings(), **changes), ("ham", "spam"))  # type: ignore[arg-type]


def test_rules_and_answers_of_the_labels_are_accepted() -> None:
    settings = replace(plain_settings(), threshold="spam@recall=0.9,ham=0.5", answers="spam=yes,ham=no")
    check_judging(settings, ("ham", "spam"))


def test_the_temperature_is_fitted_on_validation_and_stays_one_without_calibration(
    data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_rows: list[int] = []

    def fitted(self: Task, logits: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
        n_rows.append(len(truth))
        return 2.0

    monkeypatch.setattr(SingleLabel, "fit_temperature", fitted)
    for name, flags, temperature in (("a", (), 2.0), ("b", ("--no-calibrate",), 1.0)):
        train(data, backbone, tmp_path / name, *flags)
        metrics = read_metrics(tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_text("utf-8"))["lasttoken"]
        assert metrics["calibration"]["temperature"] == config["temperature"] == temperature
        assert metrics["calibration"]["split"] == "test"
    assert n_rows == [metrics["examples"]["validation"]]
