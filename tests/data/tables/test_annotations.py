"""Exports of annotation tools are read as examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from table_files import ROWS, pairs, read

from lasttoken.core.errors import DataError
from lasttoken.data.files import read_examples


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


def test_doccano_spans_are_rejected_by_name(tmp_path: Path) -> None:
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


def test_tasks_of_label_studio_that_nobody_annotated_have_texts(tmp_path: Path) -> None:
    tasks = [{"id": at, "data": {"text": f"text {at}"}} for at in range(3)]
    (tmp_path / "a.json").write_text(json.dumps(tasks))
    assert read_examples(tmp_path / "a.json", labelled=False).texts == ["text 0", "text 1", "text 2"]
    (tmp_path / "b.json").write_text(json.dumps([{**task, "text": "own"} for task in tasks]))
    assert read_examples(tmp_path / "b.json", labelled=False).texts == ["own"] * 3
