"""`lasttoken demo`, the command that a new user runs first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from miniature import run_cli

SPAM, HAM = "parcel.example.net", "she loved them"  # the ends of the two texts that the demo classifies


@pytest.mark.slow
@pytest.mark.usefixtures("real_figures")
def test_the_demo_leaves_a_complete_run_and_classifies(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    answer = run_cli("demo", "--out", out, "--offline")
    assert answer.code == 0, answer.err
    metrics = json.loads((out / "metrics.json").read_text("utf-8"))
    _check_metrics(metrics)
    for name in ("model.safetensors", "run.toml", "curves/loss.pdf"):
        assert (out / name).stat().st_size > 0
    verdict = metrics["verdict"]["sentences"][0]
    assert verdict in answer.out + answer.err
    assert verdict in (out / "report.html").read_text("utf-8").replace("&#39;", "'")
    n_rows = {
        name: len((out / "splits" / f"{name}.csv").read_text("utf-8").splitlines()) - 1 for name in metrics["examples"]
    }
    assert n_rows == metrics["examples"] == {"train": 280, "validation": 40, "test": 80}

    assert answer.out.splitlines()[-1] == verdict
    spam, ham = (line.split("\t") for line in answer.out.splitlines()[:2])
    assert (spam[0], ham[0]) == ("spam", "ham")
    assert spam[-1].endswith(SPAM)
    assert ham[-1].endswith(HAM)
    assert 0.5 < float(spam[1]) <= 1
    assert 0.5 < float(ham[1]) <= 1
    assert "illustrat" in answer.err  # the metrics of so few messages only illustrate
    assert f"lasttoken predict {out} 'your text'" in answer.err
    assert run_cli("predict", out, ham[-1]).out.split("\t")[:2] == ham[:2]


def _check_metrics(metrics: dict[str, Any]) -> None:
    """The classifier has learned, its interval holds its accuracy, and every baseline is measured on the same rows."""
    test = metrics["splits"]["test"]
    low, high = test["accuracy_ci95"]
    assert 0.5 < low < test["accuracy"] < high < 1
    assert 0.1 < high - low < 0.25  # 95 % of 80 rows
    baselines = metrics["baselines"]
    assert set(baselines) == {"majority", "length-only", "tfidf-logreg", "char-ngrams"}
    assert {baseline["test"]["n"] for baseline in baselines.values()} == {80}
    assert test["accuracy"] > baselines["majority"]["test"]["accuracy"] == 0.5
