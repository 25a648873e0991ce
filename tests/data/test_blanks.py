"""Rows without a text or a label are counted and left out, or are an error."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lasttoken.core.errors import DataError
from lasttoken.core.resolve import resolve
from lasttoken.data.blanks import BlankRows, LeftOut, NoLabelsError, missing_part
from lasttoken.data.files import read_examples
from lasttoken.data.gather import gather_splits
from lasttoken.data.tables.options import ReadOptions

STRICT = ReadOptions(strict=True)


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    return path


def test_blank_rows_are_left_out_and_counted_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    rows = [("one", "a"), (" ", "a"), ("\u200b", "b"), ("four", ""), ("five", "b"), ("", "")]
    examples = read_examples(write(tmp_path / "a.csv", rows))
    assert examples.texts == ["one", "five"]
    assert [examples.number_of(row) for row in range(2)] == [1, 5]
    assert examples.left_out is not None
    assert examples.left_out.to_json() == {"source": "a.csv", "rows": 6, "no_text": 3, "no_label": 1}
    assert "row 2 (line 3) of a.csv" in examples.left_out.first_no_text
    assert any("row 4 (line 5) of a.csv" in note for note in examples.notes)
    with pytest.raises(DataError, match=r"row 2 \(line 3\) of a.csv has no text"):
        read_examples(tmp_path / "a.csv", options=STRICT)


def test_rows_that_are_all_blank_are_an_error_with_the_first_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.csv.*of 3 rows.*row 1 \(line 2\)"):
        read_examples(write(tmp_path / "a.csv", [(" ", "a"), ("\u200b", "b"), ("three", "")]))


def test_a_row_after_a_blank_one_is_named_by_its_own_number(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [(f"text {row}", "ab"[row % 2]) for row in range(20)])
    write(tmp_path / "test.csv", [(" ", "a"), ("x", "a"), ("y", "eggs")])
    with pytest.raises(DataError, match=r"row 3 of test.csv has label 'eggs'"):
        gather_splits(tmp_path, resolve(), lambda sentence: None)


@pytest.mark.parametrize(
    ("text", "label", "missing"),
    [("a", "x", None), ("a", None, None), (" \u200b", "x", "text"), ("", None, "text"), ("a", "\t", "label")],
)
def test_a_row_lacks_its_text_or_its_label(text: str, label: str | None, missing: str | None) -> None:
    assert missing_part(text, label) == missing


def test_rows_without_any_label_are_an_error_of_their_own() -> None:
    blanks = BlankRows("a.csv", strict=False)
    blanks.leave_out("label", "row 1 of a.csv", "")
    assert blanks.result(2) == LeftOut("a.csv", 2, 0, 1, "", "row 1 of a.csv")
    with pytest.raises(NoLabelsError, match=r"1 rows of a\.csv.*--label"):
        blanks.result(1)


def test_the_rows_left_out_of_several_files_are_added_up() -> None:
    parts = [(8, LeftOut("part-0.csv", 10, 1, 1, "row 3", "row 4")), (5, None)]
    assert LeftOut.joined("all", parts) == LeftOut("all", 15, 1, 1, "row 3", "row 4")
    assert LeftOut.joined("all", [(5, None)]) is None


def test_a_column_that_most_rows_lack_is_questioned() -> None:
    (sentence,) = LeftOut("a.csv", 10, 6, 0, "row 1 of a.csv").sentences()
    assert "6 of 10" in sentence
    assert "--text" in sentence
    (sentence,) = LeftOut("a.csv", 10, 0, 5, "", "row 1 of a.csv").sentences()
    assert "--label" not in sentence
