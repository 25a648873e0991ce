"""Runs on the same rows: paired differences, the best first; runs on other rows are rejected."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from run_folders import rows_of, write_csv

from lasttoken.core.errors import RunError, SettingsError
from lasttoken.evaluation.intervals import paired_difference
from lasttoken.runs.compare import compare_runs


def test_the_difference_is_paired_and_the_best_comes_first(run_dir: Path, other_run: Path) -> None:
    comparison = compare_runs([other_run, run_dir])
    assert [run.name for run in comparison.runs] == ["spam", "other"]
    rows = rows_of(run_dir / "predictions" / "test.csv")
    ours = np.array([row["label"] == row["predicted"] for row in rows])
    theirs = np.array([row["label"] == "ham" for row in rows])
    (pair,) = comparison.pairs
    expected = paired_difference(ours, theirs)
    assert pair.difference == pytest.approx(ours.mean() - theirs.mean())
    assert pair.ci95[0] <= expected.value <= pair.ci95[1]
    assert pair.p_value is not None
    assert pair.p_value <= 1.0
    assert comparison.n == len(rows)


def test_all_pairs_or_the_best_with_each_other(run_dir: Path, other_run: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "third")
    runs = [run_dir, other_run, tmp_path / "third"]
    assert [len(compare_runs(runs, all_pairs=all_pairs).pairs) for all_pairs in (False, True)] == [2, 3]


def test_runs_of_one_name_are_shown_with_their_paths(run_dir: Path, tmp_path: Path) -> None:
    same = tmp_path / "elsewhere" / "spam"
    shutil.copytree(run_dir, same)
    comparison = compare_runs([run_dir, same], "validation")
    assert {run.name for run in comparison.runs} == {str(run_dir), str(same)}


def edited(name: str, change: Callable[[list[dict[str, str]]], object]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        for folder in ("splits", "predictions"):
            rows = rows_of(run / folder / f"{name}.csv")
            change(rows)
            write_csv(run / folder / f"{name}.csv", rows)

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
            lambda run: write_csv(run / "predictions" / "test.csv", rows_of(run / "predictions" / "test.csv")[1:]),
            "predictions",
        ),
    ],
)
def test_runs_that_cannot_be_compared_are_rejected(
    run_dir: Path, other_run: Path, spoil: Callable[[Path], None], named: str
) -> None:
    spoil(other_run)
    with pytest.raises(RunError, match=named):
        compare_runs([run_dir, other_run])


def test_one_run_one_twice_and_the_train_split_are_rejected(run_dir: Path) -> None:
    with pytest.raises(SettingsError, match="two runs"):
        compare_runs([run_dir])
    with pytest.raises(SettingsError, match=re.escape(str(run_dir))):
        compare_runs([run_dir, run_dir / "."])
    with pytest.raises(SettingsError, match="--split is 'train'"):
        compare_runs([run_dir, run_dir], "train")
