"""The command suspects: every row is ranked once; what cannot be meant is refused."""

from __future__ import annotations

import csv
from pathlib import Path

from miniature import messages, run_cli, write_backbone


def rows_file(folder: Path) -> Path:
    texts, labels = messages(40)
    path = folder / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts, labels, strict=True)])
    return path


def test_every_row_is_ranked_once_and_the_file_is_not_overwritten(tmp_path: Path) -> None:
    data, out = rows_file(tmp_path), tmp_path / "found.csv"
    command = (
        "suspects",
        data,
        "--backbone",
        write_backbone(tmp_path / "gpt"),
        "--epochs",
        1,
        "--folds",
        3,
        "--out",
        out,
    )
    answer = run_cli(*command)
    assert answer.code == 0, answer.err
    with out.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert sorted(int(row["row"]) for row in found) == list(range(1, 41))
    margins = [float(row["margin"]) for row in found]
    assert margins == sorted(margins)
    texts, labels = messages(40)
    for row in found:
        at = int(row["row"]) - 1
        assert (row["text"], row["label"]) == (texts[at], labels[at])
        assert row["suggested"] != row["label"]
    again = run_cli(*command)
    assert again.code == 2
    assert "pass --overwrite" in again.err


def test_one_fold_is_no_cross_validation(tmp_path: Path) -> None:
    answer = run_cli("suspects", rows_file(tmp_path), "--folds", 1, "--out", tmp_path / "found.csv")
    assert answer.code == 2
    assert "--folds is 1; it must be at least 2" in answer.err


def test_a_file_that_could_not_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    answer = run_cli("suspects", rows_file(tmp_path), "--out", tmp_path / "none" / "found.csv")
    assert answer.code == 2
    assert "there is no folder" in answer.err
    assert not (tmp_path / "none").exists()
