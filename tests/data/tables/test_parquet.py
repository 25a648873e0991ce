"""Parquet files: long cells and class names."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lasttoken.core.errors import DataError
from lasttoken.data.files import read_examples

LONG = "x" * 5000


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


def test_header_only_parquet(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}), tmp_path / "a.parquet"
    )
    with pytest.raises(DataError, match=r"a.parquet has columns 'text', 'label' but no rows"):
        read_examples(tmp_path / "a.parquet")


def test_nested_labels_and_truncated_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "label": [["x", "z"], ["y"]]}), path)
    with pytest.raises(DataError, match=r"row 1 of a.parquet has 2 labels \(\['x', 'z'\]\).* in column 'label'"):
        read_examples(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"a.parquet cannot be read as Parquet"):
        read_examples(path)
