"""A file, a folder or a table becomes train, validation and test; flags replace single splits."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from miniature import messages, run_cli, write_messages

from lasttoken.core.config import Settings
from lasttoken.core.resolve import resolve
from lasttoken.data.columns import UnlabelledError
from lasttoken.data.frames import from_lists
from lasttoken.data.gather import counts_in_words, gather_splits, shared_with_train
from lasttoken.data.label_tables import label_counts
from lasttoken.data.splitting.splits import Splits

TRAIN = "text,label\n" + "".join(f"text {row} of {row * 7919},{'ab'[row % 2]}\n" for row in range(20))


def folder_of(tmp_path: Path, **files: str) -> Path:
    for name, content in files.items():
        (tmp_path / name.replace("_", ".", 1)).write_text(content, "utf-8")
    return tmp_path


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    return path


def test_a_flag_replaces_a_split_of_the_folder_and_a_note_says_so(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "other.csv"
    other.write_text("text,label\nz,a\n", "utf-8")
    said: list[str] = []
    folder = folder_of(tmp_path, train_csv=TRAIN, test_csv="text,label\nc,a\n")
    splits = gather_splits(folder, Settings(test=str(other)), said.append)
    assert splits.test is not None
    assert splits.test.texts == ["z"]
    assert [sentence for sentence in said if "--test" in sentence and str(other) in sentence]


@pytest.mark.parametrize("flag", ["test", "validation"])
def test_files_of_flags_are_read_from_the_columns_of_train(tmp_path: Path, flag: str) -> None:
    (tmp_path / "train.csv").write_text(
        "title,abstract,field\n" + "".join(f"t,{row * 7919} text,{'ab'[row % 2]}\n" for row in range(20)), "utf-8"
    )
    (tmp_path / "other.csv").write_text("text,abstract,label,field\nno,yes,b,a\n", "utf-8")
    settings = resolve("default", {"text": "abstract", "label": "field", flag: str(tmp_path / "other.csv")})
    split = getattr(gather_splits(tmp_path / "train.csv", settings, lambda sentence: None), flag)
    assert (split.texts, split.labels) == (["yes"], ["a"])
    (tmp_path / "other.csv").write_text("id,abstract\n1,yes\n", "utf-8")
    with pytest.raises(UnlabelledError, match=r"other.csv has no column 'field'"):
        gather_splits(tmp_path / "train.csv", settings, lambda sentence: None)


@pytest.mark.parametrize("recipe", ["default", "book"])
def test_splits_hold_the_counts_of_rows_left_out(tmp_path: Path, recipe: str) -> None:
    rows = [(f"the text number {row}" if row % 10 else "", "ab"[row % 2]) for row in range(60)]
    splits = gather_splits(write(tmp_path / "a.csv", rows), resolve(recipe), lambda sentence: None)
    assert splits.facts == {"left_out": [{"source": "a.csv", "rows": 60, "no_text": 6, "no_label": 0}]}
    assert any("row 1 (line 2) of a.csv" in note for note in splits.notes)


def test_validation_is_cut_from_train_where_there_is_none(tmp_path: Path) -> None:
    notes: list[str] = []
    folder = folder_of(tmp_path, train_csv=TRAIN, test_csv="text,label\nc,a\n")
    splits = gather_splits(folder, resolve("default", {"validation_fraction": 0.2}), notes.append)
    assert [len(examples) for examples in splits.named().values()] == [16, 4, 1]
    assert any("--validation-fraction 0.2" in note for note in notes)


def test_undersampling_changes_train_only() -> None:
    labels = ["ham", "ham", "ham", "spam"] * 20
    examples = from_lists([f"text {row} of {row * 7919}" for row in range(80)], labels)
    splits = gather_splits(examples, resolve("default", {"balance": "undersample"}), lambda _: None)
    counts = label_counts(splits.train)
    assert counts["ham"] == counts["spam"] == 14
    assert splits.label_counts == {"ham": 42, "spam": 14}
    assert splits.test is not None
    assert label_counts(splits.test) == {"ham": 12, "spam": 4}


def test_texts_of_train_in_other_splits_are_counted() -> None:
    train = from_lists(["one", "two"], ["a", "b"])
    validation, test = from_lists(["two", "three"], ["b", "a"]), from_lists(["one", "one"], ["a", "a"])
    assert shared_with_train(Splits(train, validation, test, ())) == {"validation": 1, "test": 2}


def test_many_labels_are_counted_by_their_range() -> None:
    assert counts_in_words({f"label {row}": row for row in range(1, 10)}) == "9 labels of 1 to 9 rows"


@pytest.mark.parametrize(("flags", "noted"), [((), True), (("--multi-label",), False)])
def test_labels_that_look_like_several_point_to_multi_label(
    flags: tuple[str, ...], noted: bool, tmp_path: Path
) -> None:
    texts, _ = messages(40)
    file = write_messages(tmp_path / "a.csv", texts, ["food|price", "food", "service", "price|service"] * 10)
    answer = run_cli("split", file, "--out", tmp_path / "splits", *flags)
    assert answer.code == 0, answer.err
    assert ("--multi-label" in answer.err) == noted
