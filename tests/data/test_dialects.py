"""Tables as other programs write them are read as they are meant, or refused by name; none is read wrongly unsaid."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lasttoken.core.columns import UNNAMED, ColumnSpec
from lasttoken.core.errors import DataError, SettingsError
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.opening import open_table
from lasttoken.data.options import ReadOptions
from lasttoken.data.tables import BadRow

ROWS = [
    ('Our toaster, a "fine" one', "kitchen"),
    ("soil\nkept the frost out", "garden"), ("A copper pot, rusty", "kitchen"),
    ("The hedge trimmer snapped", "garden"), ("a pan; a spade | a tab", "kitchen"),
]  # fmt: skip
PLAIN = [(text.replace("\n", " ").replace('"', ""), label) for text, label in ROWS]


def read(path: Path, content: str | bytes, columns: ColumnSpec = UNNAMED, **options: Any) -> Examples:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_examples(path, columns, options=ReadOptions(**options))


def pairs(examples: Examples) -> list[tuple[str, str]]:
    return list(zip(examples.texts, examples.labels or [], strict=True))


def frame() -> pd.DataFrame:
    return pd.DataFrame(ROWS, columns=["text", "label"])


# Separators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [";", "|", "\t", ","])
@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.csv.gz"])
def test_the_separator_that_a_file_uses_is_found(tmp_path: Path, separator: str, name: str) -> None:
    content = frame().to_csv(sep=separator, index=False).encode()
    found = read(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    assert pairs(found) == ROWS
    usual = "\t" if name == "a.txt" else ","
    assert separator == usual or any("--separator" in note for note in found.notes)


def test_one_long_row_does_not_hide_the_separator(tmp_path: Path) -> None:
    lines = ["text;label", *(f"word {i};x" for i in range(30)), "a;b;c"]
    with pytest.raises(DataError, match=r"row 31 \(line 32\).*3 fields where 2"):
        read(tmp_path / "a.csv", "\n".join(lines), ColumnSpec(text=("text",), label=("label",)))


@pytest.mark.parametrize("name", ["text;label", "text|label"])
def test_a_column_that_is_named_with_the_sign_stays_one_column(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_text(f"{name}\na;b\nc;d\n")
    with open_table(tmp_path / "a.csv", asked=[name], labelled=False) as table:
        assert [row.values for row in table.rows()] == [{name: "a;b"}, {name: "c;d"}]


@pytest.mark.parametrize(("given", "separator"), [(";", ";"), ("~", "~"), ("\t", "\t")])
def test_the_separator_can_be_said(tmp_path: Path, given: str, separator: str) -> None:
    found = read(tmp_path / "a.dat.csv", frame().to_csv(sep=separator, index=False), separator=given)
    assert pairs(found) == ROWS


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "sep=;\r"])
def test_excels_own_first_line(tmp_path: Path, first: str) -> None:
    found = read(tmp_path / "a.csv", f"{first}\ntext;label\nhi, you;x\nho;y\n")
    assert pairs(found) == [("hi, you", "x"), ("ho", "y")]
    assert pairs(read(tmp_path / "b.csv", "sep=,\ntext,label\nhi,x\nho,y\n")) == [("hi", "x"), ("ho", "y")]
    with pytest.raises(DataError, match=r"row 1 \(line 3\)"):
        read(tmp_path / "c.csv", "sep=,\ntext,label\nhi,x,z\n")


@pytest.mark.parametrize("content", ['text, label\n"a, b", "x, y"\n"c", "z"\n', 'text, label\n"ab", "x"\n"cd", "z"\n'])
def test_a_space_before_a_quote(tmp_path: Path, content: str) -> None:
    assert not any('"' in label for _, label in pairs(read(tmp_path / "a.csv", content)))


def test_a_text_table_without_a_known_name_is_not_split_at_commas(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("anything, or so\nhi, you\n")
    with open_table(tmp_path / "a.txt", asked=["anything, or so"], labelled=False) as table:
        assert table.header == ["anything, or so"]


# Quotes in tab-separated files ------------------------------------------------------------------------------------


def excel(rows: list[tuple[str, str]]) -> str:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\t\n') else text

    return "".join("\t".join(map(cell, row)) + "\r\n" for row in rows)


@pytest.mark.parametrize(
    "content",
    [
        frame().to_csv(sep="\t", index=False),
        frame().to_csv(sep="\t", index=False, quoting=1),
        frame().to_csv(sep="\t", index=False, quoting=2),
        excel([("text", "label"), *ROWS]),
    ],
    ids=["pandas", "all", "nonnumeric", "excel"],
)
def test_quotes_as_programs_write_them_are_quotes(tmp_path: Path, content: str) -> None:
    found = read(tmp_path / "a.tsv", content)
    assert pairs(found) == ROWS
    assert any("quotes" in note for note in found.notes)


@pytest.mark.parametrize(
    "text",
    ['"Free" entry', '"never closed', 'say "hi"', '"Hello, there"', 'end "', '"a" and "b"'],
)
def test_quotes_that_are_text_stay(tmp_path: Path, text: str) -> None:
    lines = ["text\tlabel", f"{text}\tspam", "one, two\tham", 'a 5" nail\tham']
    assert read(tmp_path / "a.tsv", "\n".join(lines)).texts == [text, "one, two", 'a 5" nail']


def test_a_quote_late_in_the_file_decides_too(tmp_path: Path) -> None:
    lines = ["text\tlabel", '"a, b"\tx', *["plain\ty"] * 5000, 'say "hi"\tx']
    assert read(tmp_path / "a.tsv", "\n".join(lines)).texts[0] == '"a, b"'


# Headers ----------------------------------------------------------------------------------------------------------

BODY = [("y", "Our toaster makes soup"), ("n", "A bag of soil"), ("y", "A copper pot"), ("n", "The hedge trimmer")]


@pytest.mark.parametrize("labels", [("y", "n"), ("question", "review"), ("1", "0"), ("__y", "tag")])
@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t"), ("a.csv", ";")])
@pytest.mark.parametrize("label_first", [True, False])
def test_a_file_without_a_header_keeps_its_first_row(
    tmp_path: Path, labels: tuple[str, str], name: str, separator: str, label_first: bool
) -> None:
    rows = [(labels["yn".index(label)], text) for label, text in BODY]
    lines = [separator.join(row if label_first else row[::-1]) for row in rows]
    found = read(tmp_path / name, "\n".join(lines) + "\n")
    assert pairs(found) == [(text, label) for label, text in rows]
    assert any("no header" in note for note in found.notes)


def test_more_columns_without_a_header_are_refused(tmp_path: Path) -> None:
    lines = [f"{i},{label},{text}" for i, (label, text) in enumerate(BODY)]
    with pytest.raises(DataError, match=r"a.csv.*'y'.*--no-header"):
        read(tmp_path / "a.csv", "\n".join(lines))


@pytest.mark.parametrize(
    "content",
    [
        "text,label\nhi,x\ntext,label\nho,y\n",
        "message,spam\nwin,spam\nhi,ham\nyo,ham\n",
        "text,label\ntext,a\nhi,label\n",
        "text,label,kitchen\nhi,x,kitchen\nho,y,\n",
    ],
)
def test_a_header_whose_name_is_also_a_value_is_a_header(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with open_table(tmp_path / "a.csv") as table:
        assert not table.headerless


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_no_header_names_columns_by_number(tmp_path: Path, name: str) -> None:
    sign = "," if name == "a.csv" else "\t"
    found = read(
        tmp_path / name,
        f"7{sign}ham{sign}hi\n8{sign}spam{sign}win\n",
        ColumnSpec(text=("3",), label=("2",)),
        header=False,
    )
    assert pairs(found) == [("hi", "ham"), ("win", "spam")]


# JSON -------------------------------------------------------------------------------------------------------------

OBJECTS = [{"text": text, "label": label} for text, label in ROWS]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(OBJECTS),
        json.dumps(OBJECTS, indent=2),
        json.dumps({"data": OBJECTS}),
        json.dumps({"version": "1", "about": {"n": 5}, "rows": OBJECTS}, indent=1),
        "".join(json.dumps(one, indent=1) + "\n" for one in OBJECTS),
        "".join(json.dumps(one) + "\n" for one in OBJECTS),
        frame().to_json(),
        frame().to_json(orient="records"),
        frame().to_json(orient="split"),
        frame().to_json(orient="table"),
        "\n\n  " + json.dumps(OBJECTS),
    ],
)
def test_json_documents(tmp_path: Path, content: str) -> None:
    assert pairs(read(tmp_path / "a.json", content)) == ROWS
    assert pairs(read(tmp_path / "a.json.gz", gzip.compress(content.encode()))) == ROWS


def test_an_array_is_read_in_bounded_pieces(tmp_path: Path) -> None:
    many = [{"text": f"word {i} " + "é" * 50, "label": "xy"[i % 2]} for i in range(20_000)]
    found = read(tmp_path / "a.json", json.dumps(many, ensure_ascii=False), max_row_bytes=10_000)
    assert pairs(found) == [(str(one["text"]), one["label"]) for one in many]


@pytest.mark.parametrize("content", ['[{"text": "a", "label": "x"}, {"text": "b" "label": "y"}]', '[{"text": "a"'])
def test_a_broken_array_names_its_row(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match=r"row [12] \(line 1\) of a.json is not JSON"):
        read(tmp_path / "a.json", content)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_key_that_comes_late_is_found(tmp_path: Path, name: str) -> None:
    lines = [*['{"text": "no label yet"}'] * 105, '{"text": "hi", "grade": "x"}']
    (tmp_path / name).write_text("\n".join(lines))
    with open_table(tmp_path / name, asked=["grade"]) as table:
        assert "grade" in table.header
    lines[-1] = '{"text": "hi", "label": "x"}'
    (tmp_path / name).write_text("\n".join(lines))
    with open_table(tmp_path / name) as table:
        assert "label" in table.header


def test_lists_of_labels(tmp_path: Path) -> None:
    one = "".join(json.dumps({"text": text, "label": [label]}) + "\n" for text, label in ROWS)
    assert pairs(read(tmp_path / "a.jsonl", one)) == ROWS
    with pytest.raises(DataError, match=r"row 1 .*--multi-label"):
        read(tmp_path / "b.jsonl", '{"text": "hi", "label": ["a", "b"]}\n')


# Annotation tools -------------------------------------------------------------------------------------------------


def task(text: str, choices: list[str], **more: Any) -> dict[str, Any]:
    result = [{"from_name": "topic", "to_name": "text", "type": "choices", "value": {"choices": choices}}]
    return {"id": 1, "data": {"text": text}, "annotations": [{"result": result, **more}], "predictions": []}


def test_label_studio(tmp_path: Path) -> None:
    tasks = [task(text, [label]) for text, label in ROWS]
    skipped = task("skipped", ["kitchen"], was_cancelled=True)
    differ = task("both", ["kitchen"])
    differ["annotations"] += task("both", ["garden"])["annotations"]
    for content in (json.dumps([*tasks, skipped, differ]), "".join(json.dumps(one) + "\n" for one in tasks)):
        found = read(tmp_path / ("a.json" if content.startswith("[") else "a.jsonl"), content)
        assert pairs(found) == ROWS
        assert any("Label Studio" in note for note in found.notes)
    found = read(tmp_path / "a.json", json.dumps([*tasks, skipped, differ]))
    assert any("2 rows are left out" in note for note in found.notes)


def test_doccano_spans_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1 of a.jsonl has spans in 'label'"):
        read(tmp_path / "a.jsonl", '{"text": "hi", "label": [[0, 2, "x"]]}\n')


def test_prodigy_rejections_are_not_positives(tmp_path: Path) -> None:
    rows = [("hi", "kitchen", "accept"), ("ho", "garden", "reject"), ("yo", "garden", "accept"), ("so", "a", "ignore")]
    lines = [json.dumps({"text": t, "label": n, "answer": a, "_input_hash": 1}) for t, n, a in rows]
    found = read(tmp_path / "a.jsonl", "\n".join(lines))
    assert pairs(found) == [("hi", "kitchen"), ("yo", "garden")]
    assert sum("1 rows are left out" in note for note in found.notes) == 2
    with pytest.raises(DataError, match=r"b\.jsonl: 1 rows are left out"):
        read(tmp_path / "b.jsonl", lines[1])
    choice = {"text": "hi", "options": [{"id": "a"}], "accept": ["a"], "answer": "accept"}
    assert pairs(read(tmp_path / "c.jsonl", json.dumps(choice))) == [("hi", "a")]


def test_spacy_categories(tmp_path: Path) -> None:
    lines = [
        json.dumps({"text": t, "cats": {"kitchen": float(n == "kitchen"), "garden": float(n == "garden")}})
        for t, n in ROWS
    ]
    assert pairs(read(tmp_path / "a.jsonl", "\n".join(lines))) == ROWS


@pytest.mark.parametrize("name", ["a.txt", "a", "a.fasttext.txt"])
def test_fasttext(tmp_path: Path, name: str) -> None:
    lines = [f"__label__{label} {text}" for text, label in PLAIN]
    assert pairs(read(tmp_path / name, "\n".join(lines))) == PLAIN
    (tmp_path / name).write_text("__label__a __label__b hi\n__label__b ho\n")
    assert read_examples(tmp_path / name, separator="|").labels == ["a|b", "b"]


def test_tasks_of_label_studio_that_nobody_annotated_have_texts(tmp_path: Path) -> None:
    tasks = [{"id": at, "data": {"text": f"text {at}"}} for at in range(3)]
    (tmp_path / "a.json").write_text(json.dumps(tasks))
    assert read_examples(tmp_path / "a.json", labelled=False).texts == ["text 0", "text 1", "text 2"]
    (tmp_path / "b.json").write_text(json.dumps([{**task, "text": "own"} for task in tasks]))
    assert read_examples(tmp_path / "b.json", labelled=False).texts == ["own"] * 3


# What a file really is --------------------------------------------------------------------------------------------


def zipped(name: str) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr(name, "x" * 100)
    return whole.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (zipped("xl/workbook.xml"), "Excel"),
        (zipped("data.csv"), "zip"),
        (b"\xd0\xcf\x11\xe0" + b"\0" * 600, "Excel"),
        (b"<!DOCTYPE html>\n<html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "LFS"),
        (b"<?xml version='1.0'?><rows/>", "XML"),
        (pickle.dumps(["a"]), "pickle"),
        (b"\x89PNG\r\n\x1a\n\x00", "picture"),
        (gzip.compress(gzip.compress(b"text,label\n")), "twice"),
        (b"a.csv".ljust(257, b"\0") + b"ustar\0", "tar"),
        (b"ORC\x08", "ORC"),
        (b"%PDF-1.7\n", "PDF"),
        (b"SQLite format 3\0" + b"\0" * 80, "SQLite"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 20, "zstd"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.dat"])
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, kind: str, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name} is .*{kind}"):
        read(tmp_path / name, content)


def test_gzip_and_parquet_by_their_first_bytes(tmp_path: Path) -> None:
    assert pairs(read(tmp_path / "a.csv", gzip.compress(frame().to_csv(index=False).encode()))) == ROWS
    pq.write_table(pa.table(frame()), tmp_path / "b.csv")
    assert pairs(read_examples(tmp_path / "b.csv")) == ROWS


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


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a"])
def test_json_under_another_suffix(tmp_path: Path, name: str) -> None:
    rows = [{"text": text, "label": label} for text, label in ROWS]
    for content in (json.dumps(rows), json.dumps(rows, indent=1), "".join(json.dumps(row) + "\n" for row in rows)):
        found = read(tmp_path / name, content)
        assert pairs(found) == ROWS
        assert any("JSON" in note for note in found.notes)


def test_json_rows_by_their_ids(tmp_path: Path) -> None:
    assert pairs(read(tmp_path / "a.json", frame().to_json(orient="index"))) == ROWS
    assert pairs(read(tmp_path / "b.json", json.dumps({"x": {"text": "hi", "label": "a"}}, indent=2))) == [("hi", "a")]


@pytest.mark.parametrize(
    "content", [{"train": [["hi", "a"]], "test": [["ho", "b"]]}, {"nlu": {"examples": [{"a": 1}]}}]
)
def test_an_object_in_which_no_rows_are_found_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=rf"a\.json .*{next(iter(content))}"):
        read(tmp_path / "a.json", json.dumps(content))


@pytest.mark.parametrize("above", ["# exported by a tool, v3\n# rows: 60\n", "Survey results,\n,\n", ",\n,\n"])
def test_lines_above_the_header_are_named(tmp_path: Path, above: str) -> None:
    with pytest.raises(DataError, match=r"line 3 of a\.csv.*'text'"):
        read(tmp_path / "a.csv", above + frame().to_csv(index=False))
    with pytest.raises(DataError, match="line 3"):
        read_examples(tmp_path / "a.csv", ColumnSpec(("text",), ("label",)))


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


@pytest.mark.parametrize("mark", ["^", "~", "\x01"])
def test_a_rarer_separator_is_hinted_at(tmp_path: Path, mark: str) -> None:
    content = "".join(f"{text}{mark}{label}\n" for text, label in [("text", "label"), ("hi", "a"), ("ho", "b")])
    for asked in (UNNAMED, ColumnSpec(("text",), ("label",))):
        with pytest.raises(DataError, match="--separator"):
            read(tmp_path / "a.csv", content, asked)


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


# Bounds -----------------------------------------------------------------------------------------------------------

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


def test_a_quote_that_never_closes_is_bounded(tmp_path: Path) -> None:
    content = 'text,label\na,x\n"b,x\n' + "c,x\n" * 10_000
    with pytest.raises(DataError, match=r"row 2 \(line 3\) of a.csv is longer than .*never closed"):
        read(tmp_path / "a.csv", content, max_row_bytes=1000)


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


# Parquet ----------------------------------------------------------------------------------------------------------


def test_class_names_of_the_hub(tmp_path: Path) -> None:
    features = {"label": {"_type": "ClassLabel", "names": ["neg", "pos"]}, "text": {"_type": "Value"}}
    table = pa.table({"text": ["a", "b", "c"], "label": [1, 0, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_examples(tmp_path / "a.parquet").labels == ["pos", "neg", "pos"]


def test_what_cannot_be_said_is_refused() -> None:
    from lasttoken.core.config import resolve

    for name, value in [("field_separator", ";;"), ("field_separator", '"'), ("max_row_bytes", "much"),
                        ("max_row_bytes", "0")]:  # fmt: skip
        with pytest.raises(SettingsError, match=value.replace("|", r"\|")):
            resolve("default", {name: value})
    assert ReadOptions.of(resolve("default", {"field_separator": "tab"})).separator == "\t"


def test_a_byte_order_mark_before_json(tmp_path: Path) -> None:
    assert pairs(read(tmp_path / "a.json", codecs.BOM_UTF8 + json.dumps(OBJECTS).encode())) == ROWS
