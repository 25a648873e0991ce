"""`lasttoken suspects`: every row is ranked once; invalid flags are rejected."""

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
    data, out = rows_file(tmp_path), tmp_path / "suspects.csv"
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
        rows = list(csv.DictReader(file))
    assert sorted(int(row["row"]) for row in rows) == list(range(1, 41))
    margins = [float(row["margin"]) for row in rows]
    assert margins == sorted(margins)
    texts, labels = messages(40)
    for row in rows:
        index = int(row["row"]) - 1
        assert (row["text"], row["label"]) == (texts[index], labels[index])
        assert row["suggested"] != row["label"]
    again = run_cli(*command)
    assert again.code == 2
    assert "--overwrite" in again.err


def test_one_fold_is_rejected(tmp_path: Path) -> None:
    answer = run_cli("suspects", rows_file(tmp_path), "--folds", 1, "--out", tmp_path / "suspects.csv")
    assert answer.code == 2
    assert "--folds is 1" in answer.err


def test_an_output_that_cannot_be_written_is_rejected_before_the_work(tmp_path: Path) -> None:
    answer = run_cli("suspects", rows_file(tmp_path), "--out", tmp_path / "none" / "suspects.csv")
    assert answer.code == 2
    assert str(tmp_path / "none") in answer.err
    assert not (tmp_path / "none").exists()
