"""Trainings beside the run's own: a signal ends them, and the run is complete without them."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_folders import read_metrics, train

from lasttoken.runs import further


def test_a_signal_leaves_a_complete_run_without_further_trainings(
    data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(further, "run_folds", interrupted)
    answer = train(data, backbone, tmp_path / "run", "--seeds", 2, "--folds", 2)
    assert "interrupted" in answer.err
    metrics = read_metrics(tmp_path / "run")
    assert len(metrics["seeds"]["runs"]) == 2
    assert "folds" not in metrics
