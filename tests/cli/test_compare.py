"""`lasttoken compare` and `learning-curve`: runs side by side, and whether more labels would help."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from miniature import messages, run_cli, write_messages

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
    assert "about one in 20" in answer.err
    assert len(compare_runs([run_dir, other_run, third], all_pairs=True).pairs) == 3


def test_runs_of_one_name_are_told_by_their_paths(run_dir: Path, tmp_path: Path) -> None:
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
    ("spoil", "message"),
    [
        (edited("test", lambda rows: rows.pop()), "test rows and other on"),
        (
            edited("test", lambda rows: rows[3].update(label="spam" if rows[3]["label"] == "ham" else "ham")),
            "the first is row 4",
        ),
        (lambda run: (run / "predictions" / "test.csv").unlink(), "has no answers of a test split"),
        (lambda run: (run / "metrics.json").unlink(), "its run is not finished"),
        (
            lambda run: write(run / "predictions" / "test.csv", read(run / "predictions" / "test.csv")[1:]),
            "does not belong to",
        ),
    ],
)
def test_what_cannot_be_compared(run_dir: Path, other_run: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(other_run)
    answer = run_cli("compare", run_dir, other_run)
    assert answer.code == 2
    assert message in answer.err
    assert len(answer.err.splitlines()) == 1


def test_one_run_or_one_twice(run_dir: Path) -> None:
    assert "needs two runs or more" in run_cli("compare", run_dir).err
    assert "named twice" in run_cli("compare", run_dir, run_dir / ".").err
    assert "--split is 'train'" in run_cli("compare", run_dir, run_dir, "--split", "train").err


def test_the_learning_curve_by_itself(data: Path, backbone: Path, tmp_path: Path) -> None:
    flags = ["--backbone", backbone, "--epochs", 1]
    answer = run_cli("learning-curve", data, *flags, "--out", tmp_path / "curve.png")
    assert answer.code == 0, answer.err
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "train rows" in answer.out
    assert answer.out.splitlines()[-1].startswith("From ")
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]
    found = json.loads(run_cli("learning-curve", data, *flags, "--json").out)
    assert [point["n_train"] for point in found["points"]] == sorted({point["n_train"] for point in found["points"]})


def test_where_a_curve_cannot_be_drawn(data: Path, backbone: Path, tmp_path: Path) -> None:
    there = write_messages(tmp_path / "there.svg", *messages(2))
    for out, message in (
        (tmp_path / "curve.jpg", "use one of '.svg', '.pdf', '.png'"),
        (there, "is there already; pass --overwrite"),
        (tmp_path / "missing" / "curve.svg", "there is no folder"),
    ):
        answer = run_cli("learning-curve", data, "--backbone", backbone, "--out", out)
        assert answer.code == 2
        assert message in answer.err
