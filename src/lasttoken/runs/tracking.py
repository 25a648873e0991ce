"""Trackers: what a run measures, told to TensorBoard, MLflow or Weights & Biases while it trains. Never texts.

    start(settings, name)    once, before the first history line
    line(history line)       for each line of history.jsonl
    finish(metrics, report)  once, with the content of metrics.json and the path of report.html

Each library is an extra, imported only when its tracker is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from lasttoken.core.errors import SettingsError, one_of

PROJECT = "lasttoken"
MAX_PARAM = 500  # characters of one setting, which every store takes
SKIPPED = frozenset(
    {"labels", "per_label", "confusion", "confused", "timing_s", "durations_s", "shared_with_train"}
)  # no figures


class Tracker(Protocol):
    """Something that is told a run's settings and figures."""

    def start(self, settings: Mapping[str, Any], name: str) -> None:
        """Open a run called `name`."""

    def line(self, line: Mapping[str, Any]) -> None:
        """Tell the figures of one line of history.jsonl, at its `step`."""

    def finish(self, metrics: Mapping[str, Any], report: Path | None = None) -> None:
        """Tell the final figures (the content of metrics.json) and close the run."""


def open_tracker(name: str, out: Path) -> Tracker:
    """The tracker called `name`: "tensorboard", "mlflow" or "wandb". What it writes locally goes below `out`.

    MLflow writes where MLFLOW_TRACKING_URI says, else to ./mlruns; Weights & Biases obeys WANDB_MODE.

    Raises:
        SettingsError: no such tracker, or its library is not installed.
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


def figures(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a history line, without those that say where it stands.

    >>> figures({"kind": "epoch", "step": 130, "epoch": 1.0, "train_loss": 0.5, "best": True, "grad_norm": None})
    {'epoch': 1.0, 'train_loss': 0.5}
    """
    return {key: float(value) for key, value in line.items() if key != "step" and _is_number(value)}


def final_figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The figures of each split and of each baseline's, named split/figure and baselines/name/split/figure.

    >>> final_figures({"splits": {"test": {"n": 9, "accuracy": 0.5, "labels": ["a"]}}})
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
        """The settings stand in run.toml beside the events; an event file has only figures."""

    def line(self, line: Mapping[str, Any]) -> None:
        self._step = int(line["step"])
        self._write(figures(line))

    def finish(self, metrics: Mapping[str, Any], report: Path | None = None) -> None:
        self._write(final_figures(metrics))
        self._writer.close()

    def _write(self, found: Mapping[str, float]) -> None:
        for key, value in found.items():
            self._writer.add_scalar(key, value, self._step)
        self._writer.flush()


class _MLflow:
    """A run in the experiment "lasttoken" of the store that MLFLOW_TRACKING_URI names."""

    def __init__(self, out: Path) -> None:
        self._uri = os.environ.get("MLFLOW_TRACKING_URI") or Path("mlruns").absolute().as_uri()
        if "://" not in self._uri or self._uri.startswith("file:"):
            os.environ.setdefault(
                "MLFLOW_ALLOW_FILE_STORE", "true"
            )  # since 3.x MLflow asks for it: a database is faster
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # its usage reports; the store is told all the same
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        self._run_id = ""
        self._step = 0

    def start(self, settings: Mapping[str, Any], name: str) -> None:
        known = self._client.get_experiment_by_name(PROJECT)
        experiment_id = known.experiment_id if known else self._client.create_experiment(PROJECT)
        self._run_id = self._client.create_run(experiment_id, run_name=name).info.run_id
        for key, value in _params(settings).items():
            self._client.log_param(self._run_id, key, value)

    def line(self, line: Mapping[str, Any]) -> None:
        self._step = int(line["step"])
        for key, value in figures(line).items():
            self._client.log_metric(self._run_id, key, value, step=self._step)

    def finish(self, metrics: Mapping[str, Any], report: Path | None = None) -> None:
        for key, value in final_figures(metrics).items():
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
        self._run.log(figures(line), step=int(line["step"]))

    def finish(self, metrics: Mapping[str, Any], report: Path | None = None) -> None:
        self._run.summary.update(final_figures(metrics))
        self._run.finish()


TRACKERS: dict[str, Callable[[Path], Tracker]] = {"tensorboard": _TensorBoard, "mlflow": _MLflow, "wandb": _WandB}
