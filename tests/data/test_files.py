"""Reading: every format gives the same examples, and every broken file one sentence that names what and where."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lasttoken.core.columns import SPLIT_COLUMNS, ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.core.spelling import is_blank
from lasttoken.data import delimited
from lasttoken.data import lines as file_lines
from lasttoken.data.columns import choose_columns
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.frames import from_frame, from_lists
from lasttoken.data.opening import open_table
from lasttoken.data.options import ReadOptions

Make = Callable[[str, str | bytes], Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a file in the test's own folder."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


ROWS = [("Win $1000!", "spam"), ('say "hi", ok?', "ham"), ("two\nlines", "ham"), ("naïve 😀", "spam")]


def as_csv(rows: list[tuple[str, str]]) -> str:
    lines = ["text,label", *('"' + text.replace('"', '""') + '",' + label for text, label in rows)]
    return "\n".join(lines) + "\n"


def as_jsonl(rows: list[tuple[str, str]]) -> str:
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)


# Formats


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".jsonl", ".ndjson", ".json"])
@pytest.mark.parametrize("packed", [False, True])
def test_formats_agree(make: Make, suffix: str, packed: bool) -> None:
    content = (as_csv if suffix.lower() == ".csv" else as_jsonl)(ROWS).encode()
    path = make(f"messages{suffix}{'.gz' if packed else ''}", gzip.compress(content) if packed else content)
    found = read_examples(path)
    assert list(zip(found.texts, found.labels or [], strict=True)) == ROWS
    assert found.source == path.name


@pytest.mark.parametrize("name", ["messages.tsv", "messages.txt", "messages.tab", "messages"])
def test_tab_separated_has_no_quoting(make: Make, name: str) -> None:
    found = read_examples(make(name, 'label\ttext\r\nham\t"hi, there\r\nspam\tit\'s "free"\r\n'))
    assert found.texts == ['"hi, there', 'it\'s "free"']
    assert found.labels == ["ham", "spam"]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "messages.parquet"
    table = {
        "text": [text for text, _ in ROWS],
        "label": pa.array([label for _, label in ROWS]).dictionary_encode(),
        "vector": [[1.0]] * 4,
    }
    pq.write_table(pa.table(table), path)
    found = read_examples(path)
    assert list(zip(found.texts, found.labels or [], strict=True)) == ROWS


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


def test_json_values_are_natural_strings(make: Make) -> None:
    path = make("a.jsonl", '{"text": 12, "label": 1}\n\n{"text": 1.0, "label": true}\n{"text": "x", "label": "z"}\n')
    found = read_examples(path)
    assert (found.texts, found.labels) == (["12", "1.0", "x"], ["1", "true", "z"])


def test_json_keys_may_differ(make: Make) -> None:
    path = make("a.jsonl", '{"label": "x", "text": "a"}\n{"text": "b", "label": "y", "id": 7}\n')
    assert read_examples(path, ColumnSpec(id="id")).ids == ["", "7"]


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


def test_long_texts(make: Make) -> None:
    text = "word " * 100_000
    assert read_examples(make("a.csv", f"text,label\n{text},x\n")).texts == [text]


def test_blank_lines_are_no_rows(make: Make) -> None:
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


# Columns


def test_guesses_are_said(make: Make) -> None:
    found = read_examples(make("a.csv", "Id,Message,Category\n1,hello,x\n"))
    assert (found.texts, found.labels, found.ids) == (["hello"], ["x"], None)
    assert found.notes == (
        "the text is read from column 'Message' of a.csv (--text names another)",
        "the label is read from column 'Category' of a.csv (--label names another)",
    )


def test_named_columns_are_no_guess(make: Make) -> None:
    path = make("a.csv", "v1,v2,key,user,,\nspam,win,k1,u1,,\nham,hi,k2,u2,,\n")
    found = read_examples(path, ColumnSpec(("v2",), ("v1",), "key", "user"))
    assert found == Examples(["win", "hi"], ["spam", "ham"], ["k1", "k2"], ["u1", "u2"], "a.csv", ())


@pytest.mark.parametrize("header", ["text,whatever", "whatever,label", "text,label,other,title", "title,target,n,m"])
def test_obvious_columns(make: Make, header: str) -> None:
    with open_table(make("a.csv", header + "\n")) as table:
        columns = choose_columns(table)
    first = header.split(",")
    assert columns.spec.text[0] in ("text", "whatever", "title")
    assert columns.spec.label[0] in ("label", "whatever", "target")
    assert columns.spec.names == [*columns.spec.text, *columns.spec.label]
    assert set(columns.spec.names) <= set(first)


def test_the_one_column_left_is_the_other(make: Make) -> None:
    path = make("a.csv", "foo,bar\nhi,x\n")
    found = read_examples(path, ColumnSpec(("foo",)))
    assert (found.texts, found.labels) == (["hi"], ["x"])
    assert read_examples(path, ColumnSpec(label=("bar",))).texts == ["hi"]


def test_text_columns_are_joined_by_a_blank_line(make: Make) -> None:
    path = make("a.csv", "title,body,label\nHi,there,x\n,only body,y\n")
    assert read_examples(path, ColumnSpec(("title", "body"))).texts == ["Hi\n\nthere", "only body"]


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


# Headerless files


def test_sms_is_read_as_it_is(sms_file: Path) -> None:
    found = read_examples(sms_file)
    assert len(found) == 5574
    assert Counter(found.labels) == {"ham": 4827, "spam": 747}
    assert sum('"' in text for text in found.texts) > 50
    assert found.notes == (
        "SMSSpamCollection has no header: its two columns are read as label and text, quotes as text",
    )
    assert read_examples(sms_file, SPLIT_COLUMNS) == found


@pytest.mark.parametrize(
    ("content", "headerless"),
    [
        ("ham\thi\nspam\twin\nham\tok\n", True),
        ("label\tmessage\nham\thi\nham\tok\n", False),
        ("foo\tbar\nham\thi\nham\tok\n", False),
        ("ham\tham I am\nspam\tx\nham\ttext\n", True),
        ("good film\t1\nbad film\t0\ngood film\t1\n", False),
    ],
)
def test_first_line_of_data_is_told_from_a_header(make: Make, content: str, headerless: bool) -> None:
    path = make("messages", content)
    with open_table(path) as table:
        assert table.headerless == headerless
    with open_table(path, asked=["ham"]) as table:
        assert not table.headerless


# Broken files


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


def test_bad_byte_is_found_far_into_the_file(make: Make) -> None:
    start = "text,label\n" + "é,x\n" * 50_000
    path = make("a.csv", start.encode() + b"\xff,x\n")
    with pytest.raises(DataError, match=f"byte 0xff at byte offset {len(start.encode())} cannot"):
        read_examples(path)


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

    def refuse(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"no permission to read .*a.csv; change its mode"):
        read_examples(path)


def test_read_errors_of_the_disk(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("a.csv", "text,label\nhi,x\n")

    def refuse(*_: object, **__: object) -> object:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"a.csv cannot be read: Input/output error"):
        read_examples(path)


@pytest.mark.parametrize("encoding", ["utf-88", "hex", "", "a\0b"])
def test_unknown_encoding(make: Make, encoding: str) -> None:
    with pytest.raises(DataError, match=r"--encoding is .*utf-8"):
        read_examples(make("a.csv", "text,label\nhi,x\n"), options=ReadOptions(encoding=encoding))


def test_undecodable_without_a_position(make: Make) -> None:
    with pytest.raises(DataError, match=r"a.csv is not utf-16; name its encoding with --encoding"):
        read_examples(make("a.csv", "text,label\nhi,x\n"), options=ReadOptions(encoding="utf-16"))


def test_wrong_columns(make: Make) -> None:
    path = make("a.csv", "Text,Label\nhi,x\n")
    with pytest.raises(DataError, match=r"a.csv has no column 'text'; it has 'Text', 'Label'; did you mean 'Text'\?"):
        read_examples(path, ColumnSpec(("text",)))
    with pytest.raises(DataError, match=r"a.csv has no column 'Lable'; .* did you mean 'Label'\?"):
        read_examples(path, ColumnSpec(label=("Lable",)))
    with pytest.raises(DataError, match=r"a.csv has no column 'key'; it has 'Text', 'Label'$"):
        read_examples(path, ColumnSpec(id="key"))
    with pytest.raises(DataError, match=r"--text and --label both name column 'Text'"):
        read_examples(path, ColumnSpec(("Text",), ("Text",)))


def test_an_error_of_the_caller_is_not_taken_for_one_of_the_file(make: Make) -> None:
    def fail_while_reading() -> None:
        with open_table(make("a.csv", "text,label\nhi,x\n")) as table:
            next(table.rows())
            raise PermissionError("of the caller")

    with pytest.raises(PermissionError, match=r"of the caller"):
        fail_while_reading()


# Frames and lists


def test_frame() -> None:
    frame = pd.DataFrame({"Message": ["a", "b"], "Label": [1, 0], 7: ["k", None], "list": [[1], [2]]})
    found = from_frame(frame, ColumnSpec(id="7"))
    assert (found.texts, found.labels, found.ids) == (["a", "b"], ["1", "0"], ["k", ""])
    assert from_frame(frame[["Message"]], labelled=False).labels is None


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, np.float64("nan"), ""])
def test_missing_values_of_a_frame(missing: object) -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": pd.Series(["x", missing], dtype=object)})
    with pytest.raises(DataError, match=r"row 2 of the table has no label in column 'label'"):
        from_frame(frame, strict=True)
    assert from_frame(frame).texts == ["a"]


def test_numpy_values_of_a_frame() -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": pd.Series([np.int64(3), np.bool_(True)], dtype=object)})
    assert from_frame(frame).labels == ["3", "true"]


def test_broken_frames() -> None:
    with pytest.raises(DataError, match=r"the table has columns 'text', 'label' but no rows"):
        from_frame(pd.DataFrame({"text": [], "label": []}))
    with pytest.raises(DataError, match=r"more than one column named 'text'"):
        from_frame(pd.DataFrame([["a", "b"]], columns=["text", "text"]))
    with pytest.raises(DataError, match=r"row 1 of the table has 2 labels \(\[1, 2\]\).* in column 'label'"):
        from_frame(pd.DataFrame({"text": ["a"], "label": [[1, 2]]}))
    with pytest.raises(DataError, match=r"the table has no column 'nope'"):
        from_frame(pd.DataFrame({"text": ["a"]}), ColumnSpec(label=("nope",)))


def test_lists() -> None:
    found = from_lists(np.array(["a", "b"]), np.array([1, 0]), ids=["x", 2])
    assert (found.texts, found.labels, found.ids) == (["a", "b"], ["1", "0"], ["x", "2"])
    assert type(found.texts[0]) is str
    assert from_lists([""]).texts == [""]
    assert len(from_lists([])) == 0


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["a", "b"], ["x"], "2 texts and 1 labels"),
        (["a", None], ["x", "y"], r"texts\[1\] is None, of type NoneType"),
        (["a", 5], None, r"texts\[1\] is 5, of type int"),
        (["a"], [float("nan")], r"labels\[0\] is nan, of type float"),
        (["a", " "], ["x", "y"], r"index 1 has ' ' as its text"),
        (["a"], [""], r"index 0 has '' as its label"),
        ("abc", ["x"], "texts is one string, 'abc'"),
        ([], [], "texts is empty"),
        (["\ud83d"], None, r"texts\[0\] has half a surrogate pair"),
    ],
)
def test_broken_lists(texts: list[str], labels: list[str] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_lists(texts, labels, strict=True)


# Properties

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
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with suppress(DataError):
        assert len(read_examples(tmp_path / name)) > 0


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.just("x")), min_size=1, max_size=5))
def test_what_csv_writes_is_read(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([("text", "label"), *rows])
    assert read_examples(path, SPLIT_COLUMNS, labelled=False).texts == [text for text, _ in rows]
