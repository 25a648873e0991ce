"""Tables of lines and fields: lines above the header and unclosed quotes are errors."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from table_files import frame, read

from lasttoken.core.columns import SPLIT_COLUMNS, ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.data.files import read_examples
from lasttoken.data.tables import delimited
from lasttoken.data.tables import lines as file_lines
from lasttoken.data.tables.opening import open_table


@pytest.mark.parametrize("above", ["# exported by a tool, v3\n# rows: 60\n", "Survey results,\n,\n", ",\n,\n"])
def test_lines_above_the_header_are_named(tmp_path: Path, above: str) -> None:
    with pytest.raises(DataError, match=r"line 3 of a\.csv.*'text'"):
        read(tmp_path / "a.csv", above + frame().to_csv(index=False))
    with pytest.raises(DataError, match="line 3"):
        read_examples(tmp_path / "a.csv", ColumnSpec(("text",), ("label",)))


def test_a_quote_that_is_never_closed_reads_a_bounded_number_of_bytes(tmp_path: Path) -> None:
    content = 'text,label\na,x\n"b,x\n' + "c,x\n" * 10_000
    with pytest.raises(DataError, match=r"row 2 \(line 3\) of a.csv is longer than .*never closed"):
        read(tmp_path / "a.csv", content, max_row_bytes=1000)


Make = Callable[[str, str | bytes], Path]


@pytest.mark.parametrize("name", ["messages.tsv", "messages.txt", "messages.tab", "messages"])
def test_tab_separated_has_no_quoting(make: Make, name: str) -> None:
    found = read_examples(make(name, 'label\ttext\r\nham\t"hi, there\r\nspam\tit\'s "free"\r\n'))
    assert found.texts == ['"hi, there', 'it\'s "free"']
    assert found.labels == ["ham", "spam"]


def test_long_texts(make: Make) -> None:
    text = "word " * 100_000
    assert read_examples(make("a.csv", f"text,label\n{text},x\n")).texts == [text]


def test_blank_lines_are_skipped(make: Make) -> None:
    with open_table(make("a.csv", '\ntext,label\n\n"a\nb",x\n\nc,y\n')) as table:
        assert [(row.number, row.line) for row in table.rows()] == [(1, 4), (2, 7)]


def test_rows_stream(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("a.csv", "text,label\n" + "hello,x\n" * 100_000)
    n_read = 0
    lines = file_lines.read_lines

    def counted(*args: object, **options: object) -> object:
        nonlocal n_read
        for line in lines(*args, **options):  # type: ignore[arg-type]
            n_read += 1
            yield line

    monkeypatch.setattr(delimited, "read_lines", counted)
    with open_table(path) as table:
        next(table.rows())
    assert n_read < 1500


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.just("x")), min_size=1, max_size=5))
def test_csv_that_python_writes_is_read(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([("text", "label"), *rows])
    assert read_examples(path, SPLIT_COLUMNS, labelled=False).texts == [text for text, _ in rows]
