"""A column of 0 and 1 for each label, and lists of 0 and 1, which do not name the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lasttoken.core.columns import ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.frames import from_frame
from lasttoken.data.multihot import HotLists


def hot(**columns: list[Any]) -> Examples:
    frame = pd.DataFrame({"comment_text": ["x", "y", "z"], **columns})
    return from_frame(frame, ColumnSpec(("comment_text",), tuple(columns)), separator="|")


@pytest.mark.parametrize(
    ("yes", "no"), [(1, 0), (1.0, 0.0), (True, False), ("1", "0"), ("yes", "no"), ("TRUE", "false"), ("Y", "n")]
)
def test_multi_hot_columns_are_the_labels(yes: Any, no: Any) -> None:
    assert hot(toxic=[yes, no, no], threat=[yes, yes, no]).labels == ["threat|toxic", "threat", ""]


@pytest.mark.parametrize("cell", [-1, 2, "maybe", None, float("nan")])
def test_a_cell_that_is_neither_yes_nor_no_is_named(cell: Any) -> None:
    with pytest.raises(DataError, match=r"row 2 .*column 'threat'"):
        hot(toxic=[1, 0, 0], threat=[1, cell, 0])


def test_several_label_columns_need_several_labels() -> None:
    with pytest.raises(DataError, match=r"--label.*'toxic', 'threat'.*--multi-label"):
        from_frame({"text": ["x"], "toxic": [1], "threat": [0]}, ColumnSpec(label=("toxic", "threat")))
    with pytest.raises(DataError, match=r"a\|b"):
        from_frame({"text": ["x"], "a|b": [1], "c": [0]}, ColumnSpec(label=("a|b", "c")), separator="|")


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "frame"])
def test_lists_of_zeros_and_ones_are_rejected(tmp_path: Path, name: str) -> None:
    lists = [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    table = pd.DataFrame({"text": ["one", "two", "three"], "tags": lists})
    if name == "a.jsonl":
        table.to_json(tmp_path / name, orient="records", lines=True)
    elif name == "a.csv":
        table.to_csv(tmp_path / name, index=False)
    elif name == "a.parquet":
        pq.write_table(pa.table({"text": ["one", "two", "three"], "tags": lists}), tmp_path / name)
    with pytest.raises(DataError, match="'tags'"):
        _ = from_frame(table, separator="|") if name == "frame" else read_examples(tmp_path / name, separator="|")


@pytest.mark.parametrize(
    ("values", "are_all"),
    [
        ([[0, 1], [1, 0]], True),
        (["[0, 1]", "[1. 0.]"], True),
        ([[0, 1], None, (True, False)], True),
        ([[0, 1]], False),
        ([[0, 1], [1, 0, 0]], False),
        ([[0, 1], [2, 0]], False),
        ([[1], [0]], False),
        (["0 1", "1 0"], False),
    ],
    ids=str,
)
def test_lists_of_zeros_and_ones_have_one_length_and_at_least_two_rows(values: list[Any], are_all: bool) -> None:
    hot_lists = HotLists()
    for value in values:
        hot_lists.add(value)
    assert hot_lists.are_all == are_all
