"""Rows come in windows whose ends depend on the file alone, so that a killed job can continue at any of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lasttoken.bulk import windows
from lasttoken.bulk.windows import Input, Window, read_windows
from lasttoken.classifier.predict import Predictor
from lasttoken.core.columns import ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.data.columns import choose_columns
from lasttoken.data.tables.table import BadRow, Row, Table


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW", 3)


@pytest.fixture(scope="module")
def predictor(run_dir: Path) -> Predictor:
    return Predictor.load(run_dir, "cpu")


def input_of(texts: Sequence[Any], strict: bool = False) -> Input:
    """The input with these texts; an exclamation mark stands for a row that its reader cannot read."""
    bad: list[BadRow] = []

    def read(_: object) -> Iterator[Row]:
        for number, text in enumerate(texts, 1):
            if text == "!":
                bad.append(BadRow(number, None, "is not a row"))
            else:
                yield Row(number, None, {"text": text})

    table = Table("a.jsonl", ["text"], read)
    return Input(table, choose_columns(table, ColumnSpec(("text",)), labelled=False), "utf-8", bad, strict)


def numbers(read: list[Window]) -> list[tuple[list[int], list[int]]]:
    """For each window the numbers of its rows, and of its bad rows."""
    return [([row.number for row in window.rows], [bad.number for bad in window.bad]) for window in read]


def test_unreadable_rows_count_towards_a_window(predictor: Predictor) -> None:
    texts = ["a", "!", "c", "d", ["e"], "f", "g"]
    assert numbers(list(read_windows(input_of(texts), predictor))) == [([1, 3], [2]), ([4, 6], [5]), ([7], [])]


@pytest.mark.parametrize("skip", [0, 1, 2, 3])
def test_skipped_windows_leave_the_others_as_they_are(predictor: Predictor, skip: int) -> None:
    texts = ["a", "!", "!", "!", "c", ["d"], "e", "f", "!"]
    every_window = numbers(list(read_windows(input_of(texts), predictor)))
    assert numbers(list(read_windows(input_of(texts), predictor, skip))) == every_window[skip:]


def test_a_window_counts_empty_and_truncated_texts(predictor: Predictor) -> None:
    (window,) = read_windows(input_of(["", " \n", "word " * 2000]), predictor)
    assert window.counts.n_rows == 3
    assert window.n_empty == 2
    assert window.encoded.cut.tolist() == [False, False, True]


def test_a_row_without_a_text_is_an_error_when_strict(predictor: Predictor) -> None:
    with pytest.raises(DataError, match=r"row 2 of a\.jsonl.*'text'"):
        list(read_windows(input_of(["a", ["b"]], strict=True), predictor))


def test_no_rows_are_an_error_and_only_bad_rows_are_not(predictor: Predictor) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl"):
        list(read_windows(input_of([]), predictor))
    assert numbers(list(read_windows(input_of(["!", "!"]), predictor))) == [([], [1, 2])]
