"""Files become examples: formats agree, broken files are named, any bytes are read or rejected."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lasttoken.core.columns import SPLIT_COLUMNS, ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.core.spelling import is_blank
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.tables.options import ReadOptions

Make = Callable[[str, str | bytes], Path]


MESSAGES = [("Win $1000!", "spam"), ('say "hi", ok?', "ham"), ("two\nlines", "ham"), ("naïve 😀", "spam")]


def as_csv(rows: list[tuple[str, str]]) -> str:
    lines = ["text,label", *('"' + text.replace('"', '""') + '",' + label for text, label in rows)]
    return "\n".join(lines) + "\n"


def as_jsonl(rows: list[tuple[str, str]]) -> str:
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".jsonl", ".ndjson", ".json"])
@pytest.mark.parametrize("packed", [False, True])
def test_formats_agree(make: Make, suffix: str, packed: bool) -> None:
    content = (as_csv if suffix.lower() == ".csv" else as_jsonl)(MESSAGES).encode()
    path = make(f"messages{suffix}{'.gz' if packed else ''}", gzip.compress(content) if packed else content)
    found = read_examples(path)
    assert list(zip(found.texts, found.labels or [], strict=True)) == MESSAGES
    assert found.source == path.name


def test_unlabelled_reading_allows_empty_texts(make: Make) -> None:
    found = read_examples(make("a.csv", "id,text\n1,hi\n2,\n"), ColumnSpec(id="id"), labelled=False)
    assert (found.texts, found.labels, found.ids) == (["hi", ""], None, ["1", "2"])
    assert read_examples(make("b.txt", "anything\nhi\n"), ColumnSpec(("anything",)), labelled=False).texts == ["hi"]
    with pytest.raises(DataError, match=r"b.txt has one column, 'anything': if that is its name.*--format txt"):
        read_examples(make("b.txt", "anything\nhi\n"), labelled=False)


def test_take_keeps_everything_together() -> None:
    found = Examples(["a", "b", "c"], ["x", "y", "z"], ["1", "2", "3"], ["g", "h", "i"], "f", ("n",)).take([2, 0])
    assert found == Examples(["c", "a"], ["z", "x"], ["3", "1"], ["i", "g"], "f", ("n",))
    assert len(found) == 2
    assert Examples(["a"]).take([0]).labels is None


def test_the_sms_collection_is_read_unchanged(sms_file: Path) -> None:
    found = read_examples(sms_file)
    assert len(found) == 5574
    assert Counter(found.labels) == {"ham": 4827, "spam": 747}
    assert sum('"' in text for text in found.texts) > 50
    assert found.notes == (
        "SMSSpamCollection has no header: its two columns are read as label and text, quotes as text",
    )
    assert read_examples(sms_file, SPLIT_COLUMNS) == found


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv is empty; it needs a line of column names"),
        ("a.csv", "\n\n", "a.csv is empty"),
        ("a.jsonl", "", "a.jsonl is empty"),
        ("a.parquet", "", "a.parquet is empty"),
        ("a.csv", "text,label\n", "a.csv has columns 'text', 'label' but no rows"),
        ("a.tsv", "text\tlabel\n", "a.tsv has columns 'text', 'label' but no rows"),
        ("a.csv", b"text,label\nhi,x\ncaf\xe9,y\n",
            "a.csv is not utf-8: byte 0xe9 at byte offset 19 .* --encoding cp1252"),
        ("a.csv", b"text,label\nhi,x\ncaf\xc3", "a.csv is not utf-8: byte 0xc3 at byte offset 19 "),
        ("a.csv", "text,label\nhi,x\n".encode("utf-16-le"), "a.csv is not utf-8: .* --encoding utf-16-le"),
        ("a.csv", "text,label\nhi\n", r"row 1 \(line 2\) of a.csv has 1 field where 2 are expected"),
        ("a.csv", 'text,label\n"a\nb",x\na,b,c\n', r"row 2 \(line 4\) of a.csv has 3 fields where 2 are expected"),
        ("a.tsv", "text\tlabel\na\tb\n\na\tb\tc\n", r"row 2 \(line 4\) of a.tsv has 3 fields .*replace tabs"),
        ("a.csv", 'text,label\na,x\n"b,y\nc,z\n', r'row 2 \(line 3\) of a.csv opens a quote that is never closed'),
        ("a.csv", 'text,label\n"b" c,y\n', r"row 1 \(line 2\) of a.csv has text after a closing quote"),
        ("a.csv", '"text,label\na,b\n', r"the header \(line 1\) of a.csv opens a quote that is never closed"),
        ("a.csv", "text,text\na,b\n", "a.csv has more than one column named 'text'"),
        ("a.csv", "text,label\nhi,x\nho, \n", r"row 2 \(line 3\) of a.csv has no label in column 'label'"),
        ("a.csv", "text,label\nhi,x\n ,x\n", r"row 2 \(line 3\) of a.csv has no text in column 'text'"),
        ("a.jsonl", '{"text":"a","label":"x"}\n\n{"text":"b",\n',
            r"row 2 \(line 3\) of a.jsonl is not JSON .* column"),
        ("a.jsonl", '["a"]\n',
            r"row 1 \(line 1\) of a.jsonl is \['a'\] and not a JSON object"),
        ("a.jsonl", "[" * 100_000 + "\n", r"row 1 \(line 1\) of a.jsonl is not JSON"),
        ("a.jsonl", '{"text":["a"],"label":"x"}\n',
            r"row 1 \(line 1\) of a.jsonl has a list \(\['a'\]\) in column 'text'"),
        ("a.jsonl", '{"text":"a","label":{}}\n',
            r"a.jsonl has an object \(\{\}\) in column 'label'"),
        ("a.jsonl", '{"text":"a","label":null}\n', r"row 1 \(line 1\) of a.jsonl has no label in column 'label'"),
        ("a.jsonl", '{"text":"a","label":NaN}\n', r"row 1 \(line 1\) of a.jsonl has no label in column 'label'"),
        ("a.jsonl", '{"label":"x","text":"a"}\n{"label":"x"}\n', r"row 2 \(line 2\) of a.jsonl has no text"),
        ("a.jsonl", '{"text":"\\ud83d","label":"x"}\n',
            r"row 1 .* has half a surrogate pair \(\\ud83d\) in column 'text'"),
        ("a.parquet", "PAR1 no PAR1", "a.parquet cannot be read as Parquet"),
        ("a.csv.gz", "text,label\n", "a.csv.gz is .* gzip file"),
        ("a.csv.gz", gzip.compress(b"text,label\na,b\n")[:-12], "a.csv.gz is .* gzip file"),
        ("a.csv.gz", gzip.compress(b"text,label\n\xff"), "a.csv.gz is not utf-8: byte 0xff at byte offset 11"),
        ("a.xlsx", "PK", "a.xlsx has an unsupported file type; use .csv, .tsv"),
        ("a.parquet.gz", gzip.compress(b"x"), "a.parquet.gz has an unsupported file type"),
        ("a.csv", "a,b,c\n1,2,3\n",
            "not obvious which column of a.csv holds the text: it has 'a', 'b', 'c'.* --text"),
        ("a.csv", "text,b,c\n1,2,3\n", "not obvious which column of a.csv holds the label: .* --label"),
        ("a.csv", "tweet,title,label\n1,2,3\n", "not obvious which column of a.csv holds the text"),
        ("a.tsv", "hello there\t1\nbye\t0\n", "--no-header"),
    ],
)  # fmt: skip
def test_broken_file(make: Make, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_examples(make(name, content), options=ReadOptions(strict=True))


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: not is_blank(text))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1, max_size=8))
def test_csv_and_jsonl_round_trip(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    written = {tmp_path / "a.csv": as_csv([(text, '"' + label.replace('"', '""') + '"') for text, label in rows])}
    written[tmp_path / "a.jsonl"] = as_jsonl(rows)
    for path, content in written.items():
        path.write_bytes(content.encode())
        found = read_examples(path)
        assert list(zip(found.texts, found.labels or [], strict=True)) == rows


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.csv.gz"]))
def test_any_bytes_are_read_or_rejected(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with suppress(DataError):
        assert len(read_examples(tmp_path / name)) > 0
