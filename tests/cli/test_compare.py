"""`lasttoken compare`: runs side by side, with paired tests."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from miniature import run_cli

from lasttoken.evaluation.intervals import paired_difference
from lasttoken.runs.compare import compare_runs


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


def test_the_difference_is_paired_and_the_best_comes_first(run_dir: Path, other_run: Path) -> None:
    answer = run_cli("compare", other_run, run_dir, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert [run["run"] for run in found["runs"]] == ["spam", "other"]
    rows = read(run_dir / "predictions" / "test.csv")
    right = np.array([row["label"] == row["predicted"] for row in rows])
    theirs = np.array([row["label"] == "ham" for row in rows])
    (pair,) = found["pairs"]
    assert pair["difference"] == pytest.approx(right.mean() - theirs.mean())
    expected = paired_difference(right, theirs)
    assert pair["p_value"] <= 1.0
    assert pair["ci95"][0] <= expected.value <= pair["ci95"][1]
    assert found["n"] == len(rows)


def test_sentences_and_table(run_dir: Path, other_run: Path, tmp_path: Path) -> None:
    third = tmp_path / "third"
    shutil.copytree(run_dir, third)
    answer = run_cli("compare", run_dir, other_run, third)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0].split()[:3] == ["test,", str(len(read(run_dir / "predictions" / "test.csv"))), "rows"]
    assert "spam and third differ: +0.0 points" in answer.out
    assert "one in 20" in answer.err
    assert len(compare_runs([run_dir, other_run, third], all_pairs=True).pairs) == 3


def test_runs_of_one_name_are_shown_with_their_paths(run_dir: Path, tmp_path: Path) -> None:
    same = tmp_path / "elsewhere" / "spam"
    shutil.copytree(run_dir, same)
    found = compare_runs([run_dir, same], "validation")
    assert {run.name for run in found.runs} == {str(run_dir), str(same)}


def edited(name: str, change: Callable[[list[dict[str, str]]], object]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        for folder in ("splits", "predictions"):
            rows = read(run / folder / f"{name}.csv")
            change(rows)
            write(run / folder / f"{name}.csv", rows)

    return edit


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (edited("test", lambda rows: rows.pop()), "other"),
        (
            edited("test", lambda rows: rows[3].update(label="spam" if rows[3]["label"] == "ham" else "ham")),
            "row 4",
        ),
        (lambda run: (run / "predictions" / "test.csv").unlink(), "test"),
        (lambda run: (run / "metrics.json").unlink(), "not finished"),
        (
            lambda run: write(run / "predictions" / "test.csv", read(run / "predictions" / "test.csv")[1:]),
            "predictions",
        ),
    ],
)
def test_runs_that_cannot_be_compared_are_rejected(
    run_dir: Path, other_run: Path, spoil: Callable[[Path], None], named: str
) -> None:
    spoil(other_run)
    answer = run_cli("compare", run_dir, other_run)
    assert answer.code == 2
    assert named in answer.err
    assert len(answer.err.splitlines()) == 1


def test_one_run_or_one_twice(run_dir: Path) -> None:
    assert "two runs" in run_cli("compare", run_dir).err
    assert str(run_dir) in run_cli("compare", run_dir, run_dir / ".").err
    assert "'train'" in run_cli("compare", run_dir, run_dir, "--split", "train").err
