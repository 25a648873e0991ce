"""`lasttoken compare`: runs side by side, with paired tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from miniature import run_cli
from run_folders import rows_of


def test_sentences_and_table(run_dir: Path, other_run: Path, tmp_path: Path) -> None:
    third = tmp_path / "third"
    shutil.copytree(run_dir, third)
    answer = run_cli("compare", run_dir, other_run, third)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0].split()[:3] == ["test,", str(len(rows_of(run_dir / "predictions" / "test.csv"))), "rows"]
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
