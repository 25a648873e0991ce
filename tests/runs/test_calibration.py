"""A finished training is calibrated on validation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from run_folders import read_metrics, train

from lasttoken.evaluation.tasks.single_label import SingleLabel
from lasttoken.evaluation.tasks.task import Task


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
