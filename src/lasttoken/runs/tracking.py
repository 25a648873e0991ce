"""Experiment trackers: settings and metrics of a run go to TensorBoard, MLflow or Weights & Biases. Texts never do.

    start(settings, name)    once, before the first history line
    line(history line)       for each line of history.jsonl
    finish(metrics, report)  once, with the content of metrics.json and the path of report.html

Each library is an optional dependency and is imported when its tracker is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from lasttoken.core.errors import SettingsError, one_of

PROJECT = "lasttoken"
MAX_PARAM = 500  # characters of a setting; every store accepts as many
SKIPPED = frozenset(
    {"labels", "per_label", "confusion", "confused", "timing_s", "durations_s", "shared_with_train"}
)  # keys of metrics.json that hold no metrics


class Tracker(Protocol):
    """A store of settings and metrics."""

    def start(self, settings: Mapping[str, Any], name: str) -> None:
        """Open a run with this name."""

    def line(self, line: Mapping[str, Any]) -> None:
        """Log the metrics of a line of history.jsonl at its `step`."""

    def finish(self, metrics: Mapping[str, Any], report: Path | None = None) -> None:
        """Log the final metrics, the content of metrics.json, and close the run."""


def open_tracker(name: str, out: Path) -> Tracker:
    """The tracker "tensorboard", "mlflow" or "wandb". Its local files go below `out`.

    MLflow writes to MLFLOW_TRACKING_URI, by default ./mlruns; Weights & Biases follows WANDB_MODE.

    Raises:
        SettingsError: an unknown tracker, or a library that is not installed.
    """
    if name not in TRACKERS:
        raise SettingsError(f"--track is {name!r}; use one of {one_of(TRACKERS)}")
    try:
        return TRACKERS[name](out)
    except ImportError as error:
        raise SettingsError(
            f"--track is {name!r}, but its library is not installed ({error}); pip install '.[{name}]' in "
            "lasttoken's folder"
        ) from None


def line_metrics(line: Mapping[str, Any]) -> dict[str, float]:
    """The metrics in a line of history.jsonl, by name.

    >>> line_metrics({"kind": "epoch", "step": 130, "epoch": 1.0, "train_loss": 0.5, "best": True, "grad_norm": None})
    {'epoch': 1.0, 'train_loss': 0.5}
    """
    return {key: float(value) for key, value in line.items() if key != "step" and _is_number(value)}


def final_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics in metrics.json as split/metric and baselines/name/split/metric.

    >>> final_metrics({"splits": {"test": {"n": 9, "accuracy": 0.5, "labels": ["a"]}}})
    {'test/n': 9.0, 'test/accuracy': 0.5}
    """
    tree = {**metrics.get("splits", {}), "baselines": metrics.get("baselines", {})}
    return dict(_flat(tree, ""))


def _flat(tree: Mapping[str, Any], before: str) -> Iterator[tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and key not in SKIPPED:
            yield from _flat(value, f"{before}{key}/")
        elif _is_number(value):
            yield f"{before}{key}", float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _params(settings: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value)[:MAX_PARAM] for key, value in settings.items() if value is not None}


class _TensorBoard:
    """Event files in `out`/tensorboard."""

    def __init__(self, out: Path) -> None:
        from tensorboard.summary import Writer

        self._writer = Writer(str(out / "tensorboard"))
        self._step = 0

    def start(self, settings: Mapping[str, Any], name: str) -> None:
        """Nothing to write: run.toml holds the settings, and event files hold numbers only."""

    def line(self, line: Mapping[str, Any]) -> None:
        self._step = int(line["step"])
        self._write(line_metrics(line))

    def finish(self, metrics: Mapping[str, Any], report: Path | None = None) -> None:
        self._write(final_metrics(metrics))
        self._writer.close()

    def _write(self, metrics: Mapping[str, float]) -> None:
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, self._step)
        self._writer.flush()


class _MLflow:
    """A run in the experiment "lasttoken" of the store that MLFLOW_TRACKING_URI names."""

    def __init__(self, out: Path) -> None:
        self._uri = os.environ.get("MLFLOW_TRACKING_URI") or Path("mlruns").absolute().as_uri()
        if "://" not in self._uri or self._uri.startswith("file:"):
            # MLflow 3 recommends a database, which is faster, and writes to files only with this variable.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # usage reports to MLflow's makers, not the tracking
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        self._run_id = ""
        self._step = 0

    def start(self, settings: Mapping[str, Any], name: str) -> None:
        experiment = self._client.get_experiment_by_name(PROJECT)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(PROJECT)
        self._run_id = self._client.create_run(experiment_id, run_name=name).info.run_id
        for key, value in _params(settings).items():
            self._client.log_param(self._run_id, key, value)

    def line(self, line: Mapping[str, Any]) -> None:
        self._step = int(line["step"])
        for key, value in line_metrics(line).items():
            self._client.log_metric(self._run_id, key, value, step=self._step)

    def finish(self, metrics: Mapping[str, Any], report: Path | None = None) -> None:
        for key, value in final_metrics(metrics).items():
            self._client.log_metric(self._run_id, key, value, step=self._step)
        if report is not None:
            self._client.set_tag(self._run_id, "report", str(report))
        self._client.set_terminated(self._run_id)


class _WandB:
    """A run in the project "lasttoken"; with WANDB_MODE=offline it stays below `out`."""

    def __init__(self, out: Path) -> None:
        import wandb

        self._wandb = wandb
        self._out = out

    def start(self, settings: Mapping[str, Any], name: str) -> None:
        self._run = self._wandb.init(project=PROJECT, name=name, config=_params(settings), dir=str(self._out))

    def line(self, line: Mapping[str, Any]) -> None:
        self._run.log(line_metrics(line), step=int(line["step"]))

    def finish(self, metrics: Mapping[str, Any], report: Path | None = None) -> None:
        self._run.summary.update(final_metrics(metrics))
        self._run.finish()


TRACKERS: dict[str, Callable[[Path], Tracker]] = {"tensorboard": _TensorBoard, "mlflow": _MLflow, "wandb": _WandB}
