"""`lasttoken compare`: runs side by side, with paired tests."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from miniature import run_cli


@pytest.fixture
def other_run(run_dir: Path, tmp_path: Path) -> Path:
    """A copy of the run that gives every test row the first label."""
    other = tmp_path / "other"
    shutil.copytree(run_dir, other)
    rows = read(other / "predictions" / "test.csv")
    for row in rows:
        row["predicted"] = "ham"
    write(other / "predictions" / "test.csv", rows)
    metrics = json.loads((other / "metrics.json").read_text())
    metrics["splits"]["test"]["accuracy"] = float(np.mean([row["label"] == "ham" for row in rows]))
    (other / "metrics.json").write_text(json.dumps(metrics))
    return other


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_sentences_and_table(run_dir: Path, other_run: Path, tmp_path: Path) -> None:
    third = tmp_path / "third"
    shutil.copytree(run_dir, third)
    answer = run_cli("compare", run_dir, other_run, third)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0].split()[:3] == ["test,", str(len(read(run_dir / "predictions" / "test.csv"))), "rows"]
    assert "spam and third differ: +0.0 points" in answer.out
    assert "one in 20" in answer.err


def test_json_and_a_run_that_is_not_finished(run_dir: Path, other_run: Path) -> None:
    answer = run_cli("compare", other_run, run_dir, "--json")
    assert answer.code == 0, answer.err
    comparison = json.loads(answer.out)
    assert [run["run"] for run in comparison["runs"]] == ["spam", "other"]
    assert {"difference", "ci95", "p_value"} <= comparison["pairs"][0].keys()
    (other_run / "metrics.json").unlink()
    rejected = run_cli("compare", run_dir, other_run)
    assert rejected.code == 2
    assert len(rejected.err.splitlines()) == 1
