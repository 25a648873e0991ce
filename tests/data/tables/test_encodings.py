"""The encoding of a file is detected, or another one is advised."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from table_files import ROWS, frame, pairs, read

from lasttoken.core.errors import DataError
from lasttoken.data.files import read_examples
from lasttoken.data.tables.opening import open_table
from lasttoken.data.tables.options import ReadOptions


@pytest.mark.parametrize("codec", ["utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.jsonl", "a.csv.gz"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, name: str, codec: str) -> None:
    if name == "a.jsonl":
        whole = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS)
    else:
        whole = frame().to_csv(index=False, sep="\t" if name == "a.txt" else ",", lineterminator="\r\n")
    content = whole.encode(codec)
    found = read(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    assert pairs(found) == ROWS
    assert any(codec in note for note in found.notes)
    with pytest.raises(DataError, match=codec):
        read_examples(tmp_path / name, options=ReadOptions(encoding="cp1252"))


@pytest.mark.parametrize(("codec", "text"), [("shift_jis", "日本語"), ("gb18030", "你好吗"), ("koi8-r", "привет")])
def test_letters_that_are_not_latin_are_not_advised_to_be(tmp_path: Path, codec: str, text: str) -> None:
    content = "text,label\n" + "".join(f"{text} {i},{label}\n" for i, label in enumerate("ab" * 10))
    with pytest.raises(DataError, match=codec) as caught:
        read(tmp_path / "a.csv", content.encode(codec))
    assert "cp1252" not in str(caught.value)


def test_a_file_that_is_nearly_utf8_is_not_advised_another_encoding(tmp_path: Path) -> None:
    content = b"text,label\n" + "say “hi” to André”,a\n".encode() * 20 + b"caf\xe9,b\n"
    with pytest.raises(DataError, match="--encoding utf-8"):
        read(tmp_path / "a.csv", content, encoding="cp1252")
    with pytest.raises(DataError, match="--skip-unreadable") as caught:
        read(tmp_path / "a.csv", content)
    assert "--encoding" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.tsv"])
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("tolerant", [False, True])
def test_wide_encodings_are_named(tmp_path: Path, name: str, codec: str, tolerant: bool) -> None:
    (tmp_path / name).write_bytes(('{"text": "hi", "label": "x"}\n' * 5).encode(codec))
    on_bad: Any = (lambda _: None) if tolerant else None
    with pytest.raises(DataError, match=rf"{name} .*--encoding {codec}"), open_table(tmp_path / name, on_bad=on_bad):
        pass


@pytest.mark.parametrize(
    ("content", "given", "advised"),
    [
        (b"text,label\ncaf\xe9,x\n", "utf-8", "cp1252"),
        (b"text,label\ncaf\x81,x\n", "cp1252", "latin-1"),
        ("text,label\n\u0141\u00e9,x\n".encode(), "cp1252", "utf-8"),
        (b"text,label\ncaf\xe9,x\n", "ascii", "cp1252"),
    ],
)
def test_advice_never_repeats_the_codec_that_failed(tmp_path: Path, content: bytes, given: str, advised: str) -> None:
    with pytest.raises(DataError, match=rf"not {given}: byte 0x.*--encoding {advised}"):
        read(tmp_path / "a.csv", content, encoding=given)


Make = Callable[[str, str | bytes], Path]


def test_an_invalid_byte_far_into_the_file_is_named(make: Make) -> None:
    start = "text,label\n" + "é,x\n" * 50_000
    path = make("a.csv", start.encode() + b"\xff,x\n")
    with pytest.raises(DataError, match=f"byte 0xff at byte offset {len(start.encode())} cannot"):
        read_examples(path)


@pytest.mark.parametrize("encoding", ["utf-88", "hex", "", "a\0b"])
def test_unknown_encoding(make: Make, encoding: str) -> None:
    with pytest.raises(DataError, match=r"--encoding is .*utf-8"):
        read_examples(make("a.csv", "text,label\nhi,x\n"), options=ReadOptions(encoding=encoding))


def test_undecodable_without_a_position(make: Make) -> None:
    with pytest.raises(DataError, match=r"a.csv is not utf-16; name its encoding with --encoding"):
        read_examples(make("a.csv", "text,label\nhi,x\n"), options=ReadOptions(encoding="utf-16"))
