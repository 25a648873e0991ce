"""Values of a table as strings, and the rows that a message names."""

from __future__ import annotations

import datetime
import re
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from lasttoken.core.errors import DataError
from lasttoken.data.tables.table import (
    MOST_LEVELS,
    BadRow,
    Row,
    Table,
    as_string,
    checked_header,
    report_bad,
    row_fault,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"), (1.0, "1.0"), (True, "true"), (False, "false"), (None, None), (float("nan"), None), (pd.NA, None),
        (pd.NaT, None), (np.int64(3), "3"), (np.bool_(True), "true"), (np.float32("nan"), None),
        (b"caf\xc3\xa9", "café"),
        (Decimal("1.50"), "1.50"), (datetime.date(2026, 1, 2), "2026-01-02"), (datetime.timedelta(days=1), "P1DT0S"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
    ids=repr,
)  # fmt: skip
def test_values_as_strings(value: object, text: str | None) -> None:
    assert as_string(value) == text


@pytest.mark.parametrize(
    ("value", "error", "named"),
    [
        ([1], TypeError, r"a list \(\[1\]\)"),
        ({"a": 1}, TypeError, "an object"),
        (b"\xff", TypeError, "bytes"),
        ("\ud83d", UnicodeError, "ud83d"),
        ({1}, TypeError, "set"),
    ],
    ids=repr,
)
def test_values_that_are_not_strings(value: object, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        as_string(value)
    table = Table("a.csv", ["text"], lambda _: iter(()))
    with pytest.raises(DataError, match=r"row 3 \(line 4\) of a\.csv.*'text'"):
        table.cell(Row(3, 4, {"text": value}), "text")


def test_a_table_without_rows_is_an_error() -> None:
    table = Table("a.csv", ["text", "label"], lambda _: iter(()))
    with pytest.raises(DataError, match=r"a\.csv.*'text', 'label'"):
        list(table.rows())


def test_a_repeated_column_name_is_named() -> None:
    assert checked_header(["text", "", ""], "a.csv") == ["text", "", ""]
    with pytest.raises(DataError, match=r"a\.csv.*'text'"):
        checked_header(["text", "label", "text"], "a.csv")


def test_a_bad_row_is_passed_on_or_raised() -> None:
    bad: list[BadRow] = []
    report_bad(BadRow(2, None, "is wrong"), "a.json", bad.append)
    assert bad == [(2, None, "is wrong")]
    with pytest.raises(DataError, match=r"row 2 of a\.json is wrong"):
        report_bad(bad[0], "a.json", None)


def nested(depth: int) -> object:
    value: object = "deep"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"text": "fine é", "list": ["a", {"b": 1}]}, None),
        ({"text": "caf\udce9"}, r"0xe9 in column 'text'.*cp1252"),
        ({"text": "\ud83d"}, "ud83d"),
        ({"list": ["a", {"key": "\udcff"}]}, "0xff in column 'list'"),
        ({"list": {"\udcff": 1}}, "0xff in column 'list'"),
        ({"\udcff": 1}, "0xff"),
        ({"deep": nested(MOST_LEVELS)}, None),
        ({"deep": nested(MOST_LEVELS + 1)}, f"{MOST_LEVELS} levels"),
    ],
    ids=range(8),
)
def test_rows_that_cannot_be_written(values: dict[str, object], named: str | None) -> None:
    fault = row_fault(Row(1, 1, values), "cp1252")
    if named is None:
        assert fault is None
    else:
        assert fault is not None
        assert re.search(named, fault)


def test_only_the_named_columns_are_checked() -> None:
    assert row_fault(Row(1, 1, {"text": "a", "raw": "\udcff"}), "utf-8", ["text"]) is None
