"""`lasttoken evaluate`: the metrics of a run on a labelled file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniature import run_cli, write_messages


def test_evaluate_repeats_the_runs_own_metrics(run_dir: Path) -> None:
    expected = json.loads((run_dir / "metrics.json").read_text("utf-8"))["splits"]["test"]
    answer = run_cli("evaluate", run_dir, run_dir / "splits/test.csv", "--json", "--quiet")
    metrics = json.loads(answer.out)
    assert answer.err == ""
    assert metrics.keys() == expected.keys()
    assert metrics["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert {name: value for name, value in metrics.items() if name != "loss"} == {
        name: value for name, value in expected.items() if name != "loss"
    }


def test_evaluate_prints_accuracy_and_each_label(run_dir: Path) -> None:
    answer = run_cli("evaluate", run_dir, run_dir / "splits/test.csv")
    first, *rest = answer.out.splitlines()
    assert first.startswith("accuracy ")
    assert "on 12 rows" in first
    assert [line.split("\t")[0] for line in rest if "\t" in line] == ["ham", "spam"]
    assert any(line.startswith("ECE 0.") and " to " in line for line in rest)


@pytest.mark.parametrize("labels", [["0", "1"], ["1", "1"]])
def test_evaluate_takes_label_ids_and_says_so(labels: list[str], run_dir: Path, tmp_path: Path) -> None:
    names = [("ham", "spam")[int(label)] for label in labels]
    results = []
    for kind, column in (("ids", labels), ("names", names)):
        data = write_messages(tmp_path / f"{kind}.csv", ["a", "b"], column)
        answer = run_cli("evaluate", run_dir, data, "--json")
        assert ("0 = ham, 1 = spam" in answer.err) == (kind == "ids")
        results.append(json.loads(answer.out))
    assert results[0] == results[1]


def test_evaluate_rejects_label_ids_mixed_with_labels(run_dir: Path, tmp_path: Path) -> None:
    data = write_messages(tmp_path / "a.csv", ["a", "b"], ["ham", "1"])
    answer = run_cli("evaluate", run_dir, data, "--quiet")
    assert answer.code == 2
    assert "row 2 of a.csv" in answer.err
    assert "'1'" in answer.err


def test_evaluate_warns_about_texts_that_the_run_was_trained_on(run_dir: Path) -> None:
    n = len((run_dir / "splits/train.csv").read_text("utf-8").splitlines()) - 1
    answer = run_cli("evaluate", run_dir, run_dir / "splits/train.csv")
    assert f"{n} of the {n} texts" in answer.err
    assert "optimistic" in answer.err
    assert "optimistic" not in run_cli("evaluate", run_dir, run_dir / "splits/test.csv").err


def test_a_split_file_of_a_run_needs_no_note_about_its_columns(run_dir: Path) -> None:
    answer = run_cli("evaluate", run_dir, run_dir / "splits" / "test.csv")
    assert (answer.code, "columns of the training" in answer.err) == (0, False)
