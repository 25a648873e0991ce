"""JSON lines, arrays and documents are read as rows."""

from __future__ import annotations

import codecs
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from table_files import ROWS, frame, pairs, read

from lasttoken.core.columns import ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.data.files import read_examples
from lasttoken.data.tables.opening import open_table

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
def test_a_key_that_first_occurs_late_is_in_the_header(tmp_path: Path, name: str) -> None:
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
def test_an_object_without_rows_is_rejected(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=rf"a\.json .*{next(iter(content))}"):
        read(tmp_path / "a.json", json.dumps(content))


def test_a_byte_order_mark_before_json(tmp_path: Path) -> None:
    assert pairs(read(tmp_path / "a.json", codecs.BOM_UTF8 + json.dumps(OBJECTS).encode())) == ROWS


Make = Callable[[str, str | bytes], Path]


def test_json_values_are_natural_strings(make: Make) -> None:
    path = make("a.jsonl", '{"text": 12, "label": 1}\n\n{"text": 1.0, "label": true}\n{"text": "x", "label": "z"}\n')
    found = read_examples(path)
    assert (found.texts, found.labels) == (["12", "1.0", "x"], ["1", "true", "z"])


def test_json_keys_may_differ(make: Make) -> None:
    path = make("a.jsonl", '{"label": "x", "text": "a"}\n{"text": "b", "label": "y", "id": 7}\n')
    assert read_examples(path, ColumnSpec(id="id")).ids == ["", "7"]
