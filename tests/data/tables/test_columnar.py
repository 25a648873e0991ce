"""Batches of an Arrow table as rows: values, class names, and rows that become Arrow again."""

from __future__ import annotations

import json
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lasttoken.core.errors import DataError
from lasttoken.data.files import read_examples
from lasttoken.data.tables.columnar import (
    arrow_errors,
    as_table,
    batch_rows,
    class_names,
    plain_values,
    undecodable_columns,
)
from lasttoken.data.tables.format import ReadRequest
from lasttoken.data.tables.opening import open_table
from lasttoken.data.tables.options import ReadOptions
from lasttoken.data.tables.table import BadRow, Row

LONG = "x" * 5000


def rows_of(batch: pa.RecordBatch, n_before: int = 0) -> list[Row]:
    with ExitStack() as stack:
        return list(batch_rows(batch, n_before, (), {}, ReadRequest(Path("a.parquet"), ReadOptions(), stack)))


@pytest.mark.parametrize("cells", [["a", LONG, "b"], [LONG] * 3])
def test_cells_longer_than_the_limit_are_bad_rows(tmp_path: Path, cells: list[str]) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": cells, "label": ["x", "y", "x"]}), path)
    with pytest.raises(DataError, match="--max-row-bytes"):
        read_examples(path, options=ReadOptions(max_row_bytes=2500))
    bad: list[BadRow] = []
    with open_table(path, options=ReadOptions(max_row_bytes=2500), on_bad=bad.append) as table:
        assert all(row.values["text"] != LONG for row in table.read(table.header))
    assert len(bad) == cells.count(LONG)


def test_class_names_in_the_metadata_are_the_labels(tmp_path: Path) -> None:
    features = {"label": {"_type": "ClassLabel", "names": ["neg", "pos"]}, "text": {"_type": "Value"}}
    table = pa.table({"text": ["a", "b", "c"], "label": [1, 0, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_examples(tmp_path / "a.parquet").labels == ["pos", "neg", "pos"]


def test_parquet_values_are_natural_strings(tmp_path: Path) -> None:
    path = tmp_path / "values.parquet"
    when = pa.array([1], pa.timestamp("ns"))
    columns = {"i": [1], "f": [1.0], "b": [True], "n": [None], "s": [b"raw"], "d": [Decimal("1.50")], "t": when}
    pq.write_table(pa.table(columns), path)
    with open_table(path) as table:
        (row,) = table.rows()
        values = {name: table.cell(row, name) for name in table.header}
    assert values == {
        "i": "1", "f": "1.0", "b": "true", "n": None, "s": "raw", "d": "1.50", "t": "1970-01-01 00:00:00.000000001"
    }  # fmt: skip


def test_rows_of_several_batches_become_one_table_with_their_types() -> None:
    kind = pa.list_(pa.int16())
    columns = ({"n": pa.array([[row], None, [row + 2]], kind), "text": ["a", "b", "c"]} for row in (1, 4))
    batches = [pa.record_batch(values) for values in columns]
    first, second = rows_of(batches[0]), rows_of(batches[1], 3)
    assert [row.number for row in (*first, *second)] == [1, 2, 3, 4, 5, 6]
    table = as_table([row.values for row in (first[0], first[2], second[0], second[1])], ["n"])
    assert table.schema == pa.schema([("n", kind)])
    assert table.column("n").to_pylist() == [[1], [3], [4], None]
    assert as_table([first[0].values, {"n": [1]}], ["n"]) is None
    assert as_table([], ["n"]) is None


def test_a_row_knows_its_columns() -> None:
    (row,) = rows_of(pa.record_batch({"n": [1], "text": ["a"]}))
    assert dict(row.values) == {"n": 1, "text": "a"}
    with pytest.raises(KeyError, match="label"):
        row.values["label"]


def test_nested_times_in_nanoseconds_are_text() -> None:
    column = pa.array([[1]], pa.list_(pa.timestamp("ns")))
    assert plain_values(column) == [["1970-01-01 00:00:00.000000001"]]
    assert plain_values(pa.array([1500], pa.duration("ms"))) == ["PT1.5S"]


def test_columns_of_bytes_that_are_not_text_are_found() -> None:
    batches = [
        pa.record_batch({"text": [b"hi"], "image": [b"ok"]}),
        pa.record_batch({"text": [b""], "image": [b"\xff"]}),
    ]
    assert undecodable_columns(batches, ["text", "image"]) == {"image"}


@pytest.mark.parametrize("metadata", [None, {}, {b"huggingface": b"no JSON"}, {b"huggingface": b"[]"}])
def test_metadata_without_class_names(metadata: dict[bytes, bytes] | None) -> None:
    assert class_names(metadata) == {}


def test_an_error_of_pyarrow_names_the_file() -> None:
    with pytest.raises(DataError, match=r"a\.arrow .* Arrow \(bad bytes\)"), arrow_errors("a.arrow"):
        raise pa.ArrowInvalid("bad bytes.\nmore")
