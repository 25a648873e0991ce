"""One entry in the registry adds a metric everywhere: training, files, tables, pages, comparison and server."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniature import messages, run_cli
from numpy.typing import NDArray

from lasttoken import TextClassifier
from lasttoken.classifier.predict import Predictor
from lasttoken.cli.flags import _parameter
from lasttoken.cli.show import print_metrics
from lasttoken.core.config import FIELDS
from lasttoken.core.errors import SettingsError
from lasttoken.core.metric_registry import METRICS, Metric
from lasttoken.core.progress import Reporter
from lasttoken.core.resolve import resolve
from lasttoken.serving.interfaces.about import describe
from lasttoken.serving.models import ServedModel


def worst_recall(truth: NDArray[Any], log_probs: NDArray[Any], predicted: NDArray[Any]) -> float:
    """The recall of the label with the lowest, plus a trace of the probabilities, so that hardly two are equal."""
    recalls = [float((predicted[truth == label] == label).mean()) for label in np.unique(truth)]
    return min(recalls) + 1e-3 * float(np.exp(log_probs.max(axis=1)).mean())


TOY = Metric(name="worst", title="worst recall", direction="max", compute=worst_recall, kinds=("single-label",))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "worst", TOY)


def train(backbone: Path, out: Path, **settings: Any) -> list[dict[str, Any]]:
    """Train a miniature; the lines of its history."""
    texts, labels = messages(60)
    changes = {"epochs": 3, "learning_rate": 1e-2, "metric": "worst", "offline": True, **settings}
    TextClassifier.train(texts, labels, out=str(out), backbone=str(backbone), **changes)
    return [json.loads(line) for line in (out / "history.jsonl").read_text("utf-8").splitlines()]


def test_a_metric_without_an_entry_is_no_choice() -> None:
    with pytest.raises(SettingsError, match=r"--metric is 'worst'.*loss"):
        resolve("default", {"metric": "worst"})


@pytest.mark.usefixtures("toy")
def test_a_metric_of_the_other_task_is_rejected() -> None:
    with pytest.raises(SettingsError, match=r"--metric is worst.*multi-label.*macro_f1"):
        resolve("default", {"metric": "worst", "multi_label": True})


@pytest.mark.usefixtures("toy")
def test_the_flag_offers_it() -> None:
    assert "'worst'" in str(_parameter(FIELDS["metric"]).annotation)


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("eval_batches", [0, 2])
@pytest.mark.parametrize("direction", ["max", "min"])
def test_training_keeps_the_weights_that_are_best_by_it(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eval_batches: int, direction: str
) -> None:
    monkeypatch.setitem(METRICS, "worst", replace(TOY, direction=direction))  # type: ignore[arg-type]
    history = train(backbone, tmp_path / "run", eval_batches=eval_batches)
    values = {line["step"]: line["validation_worst"] for line in history if "validation_worst" in line}
    assert len(values) == 4
    best = (max if direction == "max" else min)(values, key=values.__getitem__)
    assert [line["step"] for line in history if line["best"]] == [best]


@pytest.mark.usefixtures("toy")
def test_every_place_shows_it(backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    train(backbone, run, seeds=2)
    train(backbone, other, learning_rate=1e-3)
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    test = metrics["splits"]["test"]
    assert test["worst_ci95"][0] <= test["worst"] <= test["worst_ci95"][1]
    assert metrics["baselines"]["tfidf-logreg"]["test"]["worst"] is not None
    assert metrics["seeds"]["mean"]["worst"] > 0
    shown = TOY.formatted(test)
    print_metrics(metrics, None, Reporter())
    assert shown in capsys.readouterr().out
    card, page = ((run / name).read_text("utf-8") for name in ("README.md", "report.html"))
    assert f"| Worst recall | {shown} |" in card
    assert ">Worst recall</th>" in page
    assert f"{test['worst']:.3f}" in page
    table = run_cli("compare", run, other)
    assert "worst recall" in table.out
    assert shown in table.out
    compared = json.loads(run_cli("compare", run, other, "--json").out)
    assert {"worst", "worst_ci95"} <= compared["runs"][0].keys()
    about = describe(ServedModel("toy", Predictor.load(run, device="cpu"), metrics))["metrics"]["test"]
    assert about["worst"] == test["worst"]
    assert about["worst_ci95"] == test["worst_ci95"]
