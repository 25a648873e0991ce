"""The contents of metrics.json and of the report: complete, and the hash and command of a run are exact."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from run_folders import read_metrics, rows_of, train

from lasttoken.classifier.explain import Explanation, _Path, explain
from lasttoken.classifier.predict import Predictor
from lasttoken.data.files import Examples
from lasttoken.runs import facts
from lasttoken.runs.facts import VERSIONS_OF, hash_of, versions


def test_metrics_have_the_shape_that_programs_rely_on(run_dir: Path) -> None:
    metrics = read_metrics(run_dir)
    assert list(metrics["splits"]) == ["train", "validation", "test"]
    for name, split in metrics["splits"].items():
        assert split["n"] == metrics["examples"][name] == len(rows_of(run_dir / f"splits/{name}.csv"))
        low, high = split["accuracy_ci95"]
        assert 0 <= low <= split["accuracy"] <= high <= 1
        assert split["loss"] > 0
        assert 0 <= split["macro_f1"] <= 1
        assert sum(map(sum, split["confusion"])) == split["n"]
    assert {"majority", "tfidf-logreg"} <= metrics["baselines"].keys()
    assert all(0 <= split["test"]["accuracy"] <= 1 for split in metrics["baselines"].values())
    assert {"load", "trunk", "tail", "evaluate"} <= metrics["timing_s"].keys()
    assert metrics["labels"] == ["ham", "spam"]
    assert metrics["stopped"] is None


def test_the_hash_changes_with_every_text_label_and_order() -> None:
    rows = Examples(["ab", "c"], ["x", "y"])
    others = [
        Examples(["a", "bc"], ["x", "y"]),
        Examples(["ab", "c"], ["x", "x"]),
        Examples(["c", "ab"], ["y", "x"]),
        Examples(["x", "c"], ["ab", "y"]),
    ]
    assert hash_of(rows) == hash_of(Examples(["ab", "c"], ["x", "y"], source="another file"))
    assert len({hash_of(examples) for examples in (rows, *others)}) == 5


def test_versions_name_python_and_every_package() -> None:
    assert set(versions()) == {"python", *VERSIONS_OF}
    assert versions()["torch"] == torch.__version__


def test_the_report_shows_the_command_that_trains_the_same_run(data: Path, backbone: Path, tmp_path: Path) -> None:
    train(data, backbone, tmp_path / "run", "--seed", 7, "--no-causal-mask", "--read", "mean")
    report = (tmp_path / "run/report.html").read_text("utf-8")
    (command,) = re.findall(r"lasttoken train messages\.csv[^<]*", report)
    for flag in ("--epochs 1", "--seed 7", "--no-causal-mask", "--read mean", f"--backbone {backbone}"):
        assert flag in command
    assert "--batch-size" not in command, "a default of the recipe"


def test_the_words_of_errors_cost_a_text_for_each_word(
    data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients of a large backbone would take longer than its training."""
    monkeypatch.setattr(_Path, "integrate", lambda *_: pytest.fail("gradients were computed"))
    train(data, backbone, tmp_path / "run")
    report = (tmp_path / "run/report.html").read_text("utf-8")
    assert "leaving each out" in report
    assert 'title="supports the label"' in report


def test_as_many_errors_are_explained_as_a_few_thousand_tokens_allow(
    data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each text is read once for each of its words: ten long ones would take longer than a training."""
    explained: list[str] = []

    def note(predictor: Predictor, text: str, **rest: Any) -> Explanation:
        explained.append(text)
        return explain(predictor, text, **rest)

    monkeypatch.setattr(facts, "explain", note)
    counts = []
    for tokens in (facts.EXPLAINED_TOKENS, 60, 0):
        monkeypatch.setattr(facts, "EXPLAINED_TOKENS", tokens)
        train(data, backbone, tmp_path / str(tokens))
        counts.append(len(explained))
        explained.clear()
    assert counts[0] > counts[1] >= counts[2] == 0
