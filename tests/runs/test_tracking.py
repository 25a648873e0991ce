"""Trackers: settings and metrics are read back from real local stores."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lasttoken.core import config
from lasttoken.core.errors import SettingsError
from lasttoken.runs import tracking
from lasttoken.runs.tracking import final_metrics, open_tracker

LINES: list[dict[str, Any]] = [
    {"kind": "start", "step": 0, "epoch": 0.0, "validation_accuracy": 0.5},
    {"kind": "epoch", "step": 130, "epoch": 1.0, "train_loss": 0.25, "validation_accuracy": 0.75, "best": True},
]
METRICS = {
    "splits": {"test": {"n": 300, "accuracy": 0.875, "accuracy_ci95": [0.8, 0.9], "per_label": {"a label": {"n": 9}}}},
    "baselines": {"majority": {"test": {"accuracy": 0.5}}},
}


def track(name: str, out: Path) -> None:
    tracker = open_tracker(name, out)
    tracker.start({"learning_rate": 5e-5, "text": ["Text"], "max_length": None}, "a run")
    for line in LINES:
        tracker.line(line)
    tracker.finish(METRICS, out / "report.html")


def test_tensorboard_events_hold_the_lines_and_the_final_metrics(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the tensorboard extra is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track("tensorboard", tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    stored = {
        key: [(event.step, float(event.tensor_proto.float_val[0])) for event in events.Tensors(key)]
        for key in events.Tags()["tensors"]
    }
    assert stored == {
        "epoch": [(0, 0.0), (130, 1.0)],
        "validation_accuracy": [(0, 0.5), (130, 0.75)],
        "train_loss": [(130, 0.25)],
        "test/n": [(130, 300.0)],
        "test/accuracy": [(130, 0.875)],
        "baselines/majority/test/accuracy": [(130, 0.5)],
    }


def test_the_mlflow_store_holds_settings_lines_and_final_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="the mlflow extra is not installed")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.tracking import MlflowClient

    store = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    track("mlflow", tmp_path)
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("lasttoken")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params == {"learning_rate": "5e-05", "text": "['Text']"}
    assert run.data.metrics["test/accuracy"] == 0.875
    history = client.get_metric_history(run.info.run_id, "validation_accuracy")
    assert [(one.step, one.value) for one in history] == [(0, 0.5), (130, 0.75)]
    assert (run.info.status, run.info.run_name) == ("FINISHED", "a run")


def test_no_label_reaches_a_tracker() -> None:
    assert not any("a label" in key for key in final_metrics(METRICS))


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "tensorboard.summary"), ("mlflow", "mlflow.tracking"), ("wandb", "wandb")]
)
def test_a_missing_library_is_one_sentence(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match=rf"pip install '.\[{name}\]'"):
        open_tracker(name, tmp_path)


def test_an_unknown_tracker_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--track.*aim.*tensorboard"):
        open_tracker("aim", tmp_path)


def test_the_setting_offers_every_tracker() -> None:
    assert set(config.TRACKERS) == set(tracking.TRACKERS)
