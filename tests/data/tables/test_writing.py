"""Parts of an output are joined below one header."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from lasttoken.data.tables.delimited import CsvWriter
from lasttoken.data.tables.writing import AddedColumn, OutputLayout

LAYOUT = OutputLayout(("text",), (AddedColumn("label", "text"), AddedColumn("score", "number")))


@pytest.mark.parametrize("compressed", [False, True])
def test_parts_are_joined_below_one_header(tmp_path: Path, compressed: bool) -> None:
    writer = CsvWriter(replace(LAYOUT, compressed=compressed))
    assert writer.suffix == (".csv.gz" if compressed else ".csv")
    parts = [tmp_path / f"{number}{writer.suffix}" for number in range(2)]
    writer.write_part(parts[0], [{"text": "café", "other": 1}], [["ham"], [0.5]], None)
    writer.write_part(parts[1], [{"text": "b"}, {}], [["spam", None], [1.0, 0.25]], parts[0])
    writer.join(parts, tmp_path / "all")
    content = (tmp_path / "all").read_bytes()
    text = (gzip.decompress(content) if compressed else content).decode()
    assert text.splitlines() == ["text,label,score", "café,ham,0.500000", "b,spam,1.000000", ",,0.250000"]


def test_a_compressed_part_has_the_same_bytes_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = CsvWriter(replace(LAYOUT, compressed=True))
    for number in range(2):
        monkeypatch.setattr("time.time", lambda number=number: 1e9 * number)
        writer.write_part(tmp_path / f"{number}", [{"text": "a"}], [["ham"], [0.5]], None)
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


def test_an_output_without_rows_has_a_header(tmp_path: Path) -> None:
    CsvWriter(LAYOUT).join([], tmp_path / "all")
    assert (tmp_path / "all").read_text().splitlines() == ["text,label,score"]
