"""A row beyond the limit is an error, whatever its format."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from table_files import read

from lasttoken.core.errors import DataError
from lasttoken.data.files import read_examples
from lasttoken.data.tables.opening import open_table
from lasttoken.data.tables.options import ReadOptions
from lasttoken.data.tables.table import BadRow

LONG = "x" * 5000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": "LONG", "label": "x"}\n{"text": "b", "label": "y"}\n'),
        ("a.csv", "text,label\na,x\nLONG,x\nb,y\n"),
        ("a.tsv", "text\tlabel\na\tx\nLONG\tx\nb\ty\n"),
        ("a.txt", "__label__x a\n__label__x LONG\n__label__y b\n"),
        ("a.json", '[{"text": "a", "label": "x"},\n{"text": "LONG", "label": "x"}, {"text": "b", "label": "y"}]'),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_row_beyond_the_bound(tmp_path: Path, name: str, content: str, packed: bool) -> None:
    path = tmp_path / (name + ".gz" * packed)
    raw = content.replace("LONG", LONG).encode()
    with pytest.raises(DataError, match=rf"row 2 .*{path.name} is longer than 1,000 bytes.*--max-row-bytes"):
        read(path, gzip.compress(raw) if packed else raw, max_row_bytes=1000)
    bad: list[BadRow] = []
    with open_table(path, options=ReadOptions(max_row_bytes=1000), on_bad=bad.append) as table:
        assert [row.values["text"] for row in table.rows()] == ["a", "b"]
    assert [row.number for row in bad] == [2]


Make = Callable[[str, str | bytes], Path]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252", "gbk", "utf-8-sig"])
def test_encodings(make: Make, encoding: str) -> None:
    text = "你好" if encoding == "gbk" else "café"
    found = read_examples(
        make("a.csv", f"text,label\n{text},x\n".encode(encoding)), options=ReadOptions(encoding=encoding)
    )
    assert found.texts == [text]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_byte_order_mark_is_dropped(make: Make, name: str) -> None:
    content = {"a.csv": "text,label\nx,y\n", "a.tsv": "text\tlabel\nx\ty\n", "a.jsonl": '{"text":"x","label":"y"}\n'}
    assert read_examples(make(name, "\ufeff" + content[name])).texts == ["x"]


def test_missing_file_and_folder(make: Make, tmp_path: Path) -> None:
    make("messages.csv", "text,label\n")
    with pytest.raises(DataError, match=r"there is no file .*mesages.cvs; did you mean 'messages.csv'\?"):
        read_examples(tmp_path / "mesages.cvs")
    with pytest.raises(DataError, match=r"there is no file .*; check the folder's name"):
        read_examples(tmp_path / "nowhere" / "a.csv")
    with pytest.raises(DataError, match=r"is a folder; name one file in it"):
        read_examples(tmp_path)


def test_no_permission(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("a.csv", "text,label\nhi,x\n")

    def reject(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", reject)
    with pytest.raises(DataError, match=r"no permission to read .*a.csv; change its mode"):
        read_examples(path)


def test_read_errors_of_the_disk(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("a.csv", "text,label\nhi,x\n")

    def reject(*_: object, **__: object) -> object:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(Path, "open", reject)
    with pytest.raises(DataError, match=r"a.csv cannot be read: Input/output error"):
        read_examples(path)


def test_an_error_of_the_caller_is_not_taken_for_one_of_the_file(make: Make) -> None:
    def fail_while_reading() -> None:
        with open_table(make("a.csv", "text,label\nhi,x\n")) as table:
            next(table.rows())
            raise PermissionError("of the caller")

    with pytest.raises(PermissionError, match=r"of the caller"):
        fail_while_reading()
