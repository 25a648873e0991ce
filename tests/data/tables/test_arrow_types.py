"""One Arrow type for each column of rows that declare none."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from lasttoken.data.tables import arrow_types
from lasttoken.data.tables.arrow_types import MOST_EXACT, array_of, schema_of_values


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, None], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([MOST_EXACT + 1, 2.5], pa.string()),  # a float would change the integer
        ([1, "a"], pa.string()),
        ([[1], [2.5]], pa.list_(pa.float64())),
        ([{"a": 1}, {"b": "x"}], pa.struct([("a", pa.int64()), ("b", pa.string())])),
        ([{}], pa.string()),  # Parquet cannot hold an object without keys
        ([[{}]], pa.string()),
        ([2**70], pa.string()),
        ([None], pa.null()),
    ],
    ids=str,
)
@pytest.mark.parametrize("rows_at_a_time", [1, 1000])
def test_a_type_holds_all_values_of_its_column(
    values: list[Any], kind: pa.DataType, rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow_types, "ROWS_TYPED", rows_at_a_time)
    schema = schema_of_values(({"x": value, "other": 1} for value in values), ["x"])
    assert schema == pa.schema([("x", kind)])


def test_a_column_of_missing_values_is_text() -> None:
    assert array_of([None, None], None).type == pa.string()
    assert array_of([None, "a"], pa.null()).to_pylist() == [None, "a"]


def test_values_of_a_text_column_are_written_as_text() -> None:
    assert array_of([1, True, None, [1]], pa.string()).to_pylist() == ["1", "true", None, "[1]"]


def test_values_of_different_types_without_a_type_are_an_error() -> None:
    with pytest.raises(pa.ArrowException):
        array_of([1, "a"], None)
