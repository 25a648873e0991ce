"""Parquet files: long cells and class names."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lasttoken.core.errors import DataError
from lasttoken.data.files import read_examples
from lasttoken.data.opening import open_table
from lasttoken.data.options import ReadOptions
from lasttoken.data.tables import BadRow

LONG = "x" * 5000


@pytest.mark.parametrize("cells", [["a", LONG, "b"], [LONG] * 3])
def test_parquet_cells_beyond_the_bound(tmp_path: Path, cells: list[str]) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": cells, "label": ["x", "y", "x"]}), path)
    with pytest.raises(DataError, match="--max-row-bytes"):
        read_examples(path, options=ReadOptions(max_row_bytes=2500))
    bad: list[BadRow] = []
    with open_table(path, options=ReadOptions(max_row_bytes=2500), on_bad=bad.append) as table:
        assert all(row.values["text"] != LONG for row in table.read(table.header))
    assert len(bad) == cells.count(LONG)


def test_class_names_of_the_hub(tmp_path: Path) -> None:
    features = {"label": {"_type": "ClassLabel", "names": ["neg", "pos"]}, "text": {"_type": "Value"}}
    table = pa.table({"text": ["a", "b", "c"], "label": [1, 0, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_examples(tmp_path / "a.parquet").labels == ["pos", "neg", "pos"]


MESSAGES = [("Win $1000!", "spam"), ('say "hi", ok?', "ham"), ("two\nlines", "ham"), ("naïve 😀", "spam")]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "messages.parquet"
    table = {
        "text": [text for text, _ in MESSAGES],
        "label": pa.array([label for _, label in MESSAGES]).dictionary_encode(),
        "vector": [[1.0]] * 4,
    }
    pq.write_table(pa.table(table), path)
    found = read_examples(path)
    assert list(zip(found.texts, found.labels or [], strict=True)) == MESSAGES


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


def test_header_only_parquet(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}), tmp_path / "a.parquet"
    )
    with pytest.raises(DataError, match=r"a.parquet has columns 'text', 'label' but no rows"):
        read_examples(tmp_path / "a.parquet")


def test_nested_parquet_and_torn_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "label": [["x", "z"], ["y"]]}), path)
    with pytest.raises(DataError, match=r"row 1 of a.parquet has 2 labels \(\['x', 'z'\]\).* in column 'label'"):
        read_examples(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"a.parquet cannot be read as Parquet"):
        read_examples(path)
