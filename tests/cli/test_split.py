"""`lasttoken split`: files for each split, the same as a training makes."""

from __future__ import annotations

import json
from pathlib import Path

from miniature import messages, run_cli, write_messages


def test_a_balance_flag_wins_over_the_book(tmp_path: Path) -> None:
    texts, labels = messages(60)
    data = write_messages(tmp_path / "a.csv", [*texts, "one more"], [*labels, "ham"])
    for flags, n_rows in (((), 60), (("--balance", "none"), 61)):
        answer = run_cli("split", data, "--recipe", "book", *flags, "--out", tmp_path / str(n_rows), "--json")
        assert sum(json.loads(answer.out)["rows"].values()) == n_rows


def test_splits_are_replaced_only_with_overwrite(data: Path, tmp_path: Path) -> None:
    assert run_cli("split", data, "--out", tmp_path / "s").code == 0
    before = (tmp_path / "s/train.csv").read_bytes()
    rejected = run_cli("split", data, "--out", tmp_path / "s", "--seed", 5)
    assert rejected.code == 2
    assert "--overwrite" in rejected.err
    assert (tmp_path / "s/train.csv").read_bytes() == before
    assert run_cli("split", data, "--out", tmp_path / "s", "--seed", 5, "--overwrite").code == 0
    assert (tmp_path / "s/train.csv").read_bytes() != before


def test_split_reports_the_rows_of_each_label(data: Path, tmp_path: Path) -> None:
    answer = run_cli("split", data, "--out", tmp_path / "s")
    assert "messages.csv" in answer.err
    assert "ham 30, spam 30" in answer.err
    assert answer.out.splitlines() == [
        "train\t42\tham 21\tspam 21",
        "validation\t6\tham 3\tspam 3",
        "test\t12\tham 6\tspam 6",
    ]
    assert {path.name for path in (tmp_path / "s").iterdir()} == {"train.csv", "validation.csv", "test.csv"}


def test_split_and_train_make_the_same_splits(run_dir: Path, data: Path, tmp_path: Path) -> None:
    run_cli("split", data, "--out", tmp_path / "s")
    for name in ("train", "validation", "test"):
        assert (tmp_path / f"s/{name}.csv").read_bytes() == (run_dir / f"splits/{name}.csv").read_bytes()
