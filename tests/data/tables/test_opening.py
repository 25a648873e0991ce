"""First bytes decide how a file is opened, and unreadable rows can be left out."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_files import ROWS, frame, pairs, read

from lasttoken.core.errors import DataError
from lasttoken.data.files import read_examples


def test_gzip_and_parquet_by_their_first_bytes(tmp_path: Path) -> None:
    assert pairs(read(tmp_path / "a.csv", gzip.compress(frame().to_csv(index=False).encode()))) == ROWS
    pq.write_table(pa.table(frame()), tmp_path / "b.csv")
    assert pairs(read_examples(tmp_path / "b.csv")) == ROWS


def test_bad_bytes_are_counted_and_their_rows_can_be_left_out(tmp_path: Path) -> None:
    lines = [*("café,x".encode(), "naïve,y".encode()) * 20, b"\xff\xfe,x", b"\xe9,y"]
    content = b"text,label\n" + b"\n".join(lines)
    with pytest.raises(DataError, match=r"0xff at byte offset \d+ .*3 such bytes in 2 lines.*--skip-unreadable"):
        read(tmp_path / "a.csv", content)
    found = read(tmp_path / "a.csv", content, skip_unreadable=True)
    assert len(found) == 40
    assert any("2 rows" in note and "row 41 (line 42)" in note for note in found.notes)


def test_rows_of_other_faults_can_be_left_out_too(tmp_path: Path) -> None:
    content = '{"text": "a", "label": "x"}\n{"text": \n[1]\n{"text": "b", "label": "y", "u": {"n": "\\ud83d"}}\n'
    found = read(tmp_path / "a.jsonl", content, skip_unreadable=True)
    assert pairs(found) == [("a", "x")]
    assert any("3 rows" in note for note in found.notes)
