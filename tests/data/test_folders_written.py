"""Folders of splits that are written are read back unchanged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_examples import made, parts_of

from lasttoken.core.columns import SPLIT_COLUMNS
from lasttoken.core.errors import DataError, StorageError
from lasttoken.core.spelling import is_blank
from lasttoken.data import folders
from lasttoken.data.files import Examples
from lasttoken.data.folders import read_splits, write_splits
from lasttoken.data.splits import Splits, check_splits

TEXTS = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: not is_blank(text))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXTS, TEXTS, st.text(alphabet='a,"\n'), TEXTS), min_size=1, max_size=6))
def test_round_trip(tmp_path: Path, rows: list[tuple[str, str, str, str]]) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)]
    texts, labels, ids, groups = columns
    examples = Examples(texts, labels, ids, groups)
    write_splits(Splits(examples, examples, None), tmp_path)
    found = read_splits(tmp_path, replace(SPLIT_COLUMNS, id="id", group="group"))
    assert found.test is None
    for part in (found.train, found.validation):
        assert part is not None
        assert [part.texts, part.labels, part.ids, part.groups] == columns


@pytest.mark.parametrize("text", ["a\rb", "\r", "a\0b", '"', ",", "two\r\nlines", "😀", " edge ", "\ufeffmark"])
def test_hard_texts_survive(tmp_path: Path, text: str) -> None:
    examples = Examples([f"x{text}"], ["y"])
    write_splits(Splits(examples, None, None), tmp_path)
    assert read_splits(tmp_path).train.texts == [f"x{text}"]


def test_all_files_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.csv").write_text("what was there")
    write = folders._write_csv
    n_written = 0

    def full_disk(*args: object) -> None:
        nonlocal n_written
        n_written += 1
        if n_written == 3:
            raise OSError(28, "No space left on device")
        write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(folders, "_write_csv", full_disk)
    examples = made("ab")
    with pytest.raises(StorageError, match=r"the disk is full: could not write .*test.csv"):
        write_splits(Splits(examples, examples, examples), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]
    assert (tmp_path / "train.csv").read_text() == "what was there"


def test_read_splits_takes_every_format(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "validation.tsv").write_text("text\tlabel\nc\tx\n")
    (tmp_path / "test.jsonl").write_text('{"text": "d", "label": "y"}\n')
    splits = read_splits(tmp_path)
    assert [part.texts for part in parts_of(splits)] == [["a", "b"], ["c"], ["d"]]
    assert len(splits.notes) == 2
    check_splits(splits)


def test_read_splits_without_train(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no train.csv, .* \(it is empty\)"):
        read_splits(tmp_path)
    (tmp_path / "messages.csv").write_text("text,label\na,x\n")
    with pytest.raises(DataError, match=r"has no train.csv, .* \(it holds 'messages.csv'\)"):
        read_splits(tmp_path)
    with pytest.raises(DataError, match=r"has no train.csv, .* there is no such folder"):
        read_splits(tmp_path / "nowhere")
