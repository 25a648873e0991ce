"""Folders of splits: which file is which split, columns as train has them, and what is not used is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_examples import made, parts_of

from lasttoken.audit.reading import read_for_audit
from lasttoken.core.columns import SPLIT_COLUMNS, ColumnSpec
from lasttoken.core.config import Settings
from lasttoken.core.errors import DataError, StorageError
from lasttoken.core.spelling import is_blank
from lasttoken.data import folders
from lasttoken.data.columns import UnlabelledError
from lasttoken.data.files import Examples
from lasttoken.data.folders import read_splits, write_splits
from lasttoken.data.gather import gather_splits
from lasttoken.data.splitting.splits import Splits, check_splits

TRAIN = "text,label\n" + "".join(f"text {row} of {row * 7919},{'ab'[row % 2]}\n" for row in range(20))


def folder_of(tmp_path: Path, **files: str) -> Path:
    for name, content in files.items():
        (tmp_path / name.replace("_", ".", 1)).write_text(content, "utf-8")
    return tmp_path


# Which file is which split ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["dev.csv", "val.csv", "valid.tsv", "eval.csv", "validation.ndjson", "Validation.CSV", "validation.json"]
)
def test_other_names_of_the_validation_split(tmp_path: Path, name: str) -> None:
    rows = {"csv": "text,label\nc,a\nd,b\n", "tsv": "text\tlabel\nc\ta\nd\tb\n"}
    lines = '{"text": "c", "label": "a"}\n{"text": "d", "label": "b"}\n'
    (tmp_path / name).write_text(rows.get(name.lower().split(".")[1], lines), "utf-8")
    found = gather_splits(folder_of(tmp_path, train_csv=TRAIN), Settings(), lambda sentence: None)
    assert found.validation is not None
    assert found.validation.texts == ["c", "d"]
    assert len(found.train) == 20


@pytest.mark.parametrize("names", [("dev.csv", "val.csv"), ("test.csv", "test.tsv"), ("train.tsv", "training.csv")])
def test_two_files_for_one_split_are_rejected_by_name(tmp_path: Path, names: tuple[str, str]) -> None:
    folder_of(tmp_path, train_csv=TRAIN)
    for name in names:
        (tmp_path / name).write_text("text,label\nc,a\n", "utf-8")
    for read in (read_splits, lambda path: read_for_audit([path])):
        with pytest.raises(DataError, match="|".join(names)) as error:
            read(tmp_path)
        assert all(name in str(error.value) for name in names)


def test_data_files_that_are_not_used_are_named(tmp_path: Path) -> None:
    found = read_splits(folder_of(tmp_path, train_csv=TRAIN, unlabeled_csv="text\nx\n", README_txt="read", run_py="1"))
    assert [note for note in found.notes if "unlabeled.csv" in note]
    assert not [note for note in found.notes if "README" in note or "run.py" in note]


# Columns ----------------------------------------------------------------------------------------------------------


def test_every_file_is_read_from_the_columns_of_train(tmp_path: Path) -> None:
    other = "title,review,sentiment,category\nno,yes,a,b\n"
    folder = folder_of(tmp_path, train_csv="review,sentiment\nx,a\ny,b\n", validation_csv=other, test_csv=other)
    found = read_splits(folder)
    for part in (found.validation, found.test):
        assert part is not None
        assert (part.texts, part.labels) == (["yes"], ["a"])


@pytest.mark.parametrize("asked", [ColumnSpec(), ColumnSpec(label=("label",)), ColumnSpec(("text",), ("label",))])
def test_another_label_column_than_that_of_train_is_rejected(tmp_path: Path, asked: ColumnSpec) -> None:
    folder = folder_of(tmp_path, train_csv=TRAIN, test_csv="text,second_choice\nx,a\n")
    with pytest.raises(DataError, match=r"test.csv has no column 'label'.*'second_choice'") as error:
        read_splits(folder, asked)
    assert not isinstance(error.value, UnlabelledError)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (TRAIN, "id,text\n1,x\n2,y\n"),
        ("sentence,label\nx,a\ny,b\n", "index,sentence\n0,x\n1,y\n"),
        ("id,keyword,location,text,target\n1,k,l,x,0\n2,k,l,y,1\n", "id,keyword,location,text\n3,k,l,z\n"),
        ("text,label\nx,a\ny,b\n", "text\nz\n"),
        ("text,label\nx,0\ny,1\n", "text,label\nz,-1\nw,-1\n"),
        (TRAIN, "text,label\nz,\nw,  \n"),
    ],
)
def test_a_test_file_without_labels_is_left_out_and_reported(tmp_path: Path, train: str, test: str) -> None:
    folder = folder_of(tmp_path, train_csv=train, test_csv=test)
    found = read_splits(folder)
    assert found.test is None
    assert [note for note in found.notes if "test.csv" in note and "left out" in note]
    assert "test" not in read_for_audit([folder]) or ",label\nz,\n" in test  # blank labels are audit's to show


def test_a_validation_file_without_labels_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UnlabelledError, match=r"dev.csv has no column 'label'"):
        read_splits(folder_of(tmp_path, train_csv=TRAIN, dev_csv="id,text\n1,x\n"))


def test_an_id_column_is_never_guessed_to_be_the_label(tmp_path: Path) -> None:
    for name in ("id", "PhraseId", "sentence_id", "index", "Unnamed: 0"):
        (tmp_path / "train.csv").write_text(f"{name},text\n1,x\n2,y\n", "utf-8")
        with pytest.raises(DataError, match="--label"):
            read_splits(tmp_path)


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
