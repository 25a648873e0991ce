"""One spelling of each label, and labels with too few rows, from files to splits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lasttoken.audit.collecting import audit_splits
from lasttoken.core.errors import DataError
from lasttoken.core.resolve import resolve
from lasttoken.data.cleaning import leave_out_rare, unify_labels
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.frames import from_frame, from_lists
from lasttoken.data.gather import gather_splits
from lasttoken.data.label_tables import label_counts
from lasttoken.data.splitting.cutting import cut_folds, cut_rows, split_examples
from lasttoken.data.splitting.near_duplicates import find_duplicates
from lasttoken.data.splitting.splits import Splits
from lasttoken.data.tables.options import ReadOptions

STRICT = ReadOptions(strict=True)


def many(labels: list[str], texts: list[str] | None = None) -> Examples:
    return from_lists(texts or [f"the text number {at} {at * 7919}" for at in range(len(labels))], labels)


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    return path


# Spellings --------------------------------------------------------------------------------------------------------


def test_the_commonest_spelling_in_train_stands_for_all() -> None:
    train, test = many(["a"] * 5 + ["a\u200b"] * 2 + ["b "] * 6), many(["a "] * 9 + ["b"])
    found = unify_labels(Splits(train, None, test))
    assert label_counts(found.train) == {"a": 7, "b": 6}
    assert found.test is not None
    assert label_counts(found.test) == {"a": 9, "b": 1}
    merged = {fact["label"]: fact["spellings"] for fact in found.facts["merged_labels"]}
    assert merged == {"a": {"a": 5, "a\u200b": 2, "a ": 9}, "b": {"b ": 6, "b": 1}}
    assert len(found.notes) == 2


def test_labels_in_one_spelling_stay_the_same_object() -> None:
    splits = Splits(many(["US", "us", "01", "1"]), None, None)
    assert unify_labels(splits) is splits


def test_sets_of_labels() -> None:
    sets = [["joy"], ["joy", "joy\u200b"], ["1"], ["1.0", "love"], []]
    found = unify_labels(Splits(from_lists(list("abcde"), sets, separator="|"), None, None))
    assert found.train.labels == ["joy", "joy", "1", "1|love", ""]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "frame"])
def test_numbers_and_truth_values_of_every_format(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"text": [f"text {at}" for at in range(4)], "label": [True, False, True, False]})
    path = tmp_path / f"a.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif suffix == "parquet":
        frame.to_parquet(path)
    other = from_frame(frame) if suffix == "frame" else read_examples(path)
    found = unify_labels(Splits(many(["True"] * 5 + ["False"] * 5), None, other))
    assert found.test is not None
    assert label_counts(found.test) == {"False": 2, "True": 2}


def test_a_folder_with_other_spellings_in_each_file(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [(f"train text {at}", str(at % 2)) for at in range(20)])
    write(tmp_path / "validation.csv", [(f"dev text {at}", f"{at % 2}.0") for at in range(6)])
    write(tmp_path / "test.csv", [(f"test text {at}", f" {at % 2}") for at in range(6)])
    said: list[str] = []
    splits = gather_splits(tmp_path, resolve(), said.append)
    assert [label_counts(part) for part in splits.named().values()] == [{"0": n, "1": n} for n in (10, 3, 3)]
    assert sum("'0.0' (3 rows)" in sentence for sentence in said) == 1


def test_the_audit_tells_of_spellings_and_of_case() -> None:
    found = audit_splits({"train": many(["caf\u00e9"] * 5 + ["cafe\u0301"] * 2 + ["us"] * 3 + ["US"] * 4)})
    assert [merge.label for merge in found.merges] == ["caf\u00e9"]
    assert any("'cafe\\u0301' (2 rows)" in note for note in found.notes())
    assert any("'US' (4 rows) and 'us' (3 rows)" in finding for finding in found.findings())


# Rare labels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rare", [1, 2])
def test_a_label_with_too_few_rows_stays_in_train(n_rare: int) -> None:
    examples = many(["a"] * 30 + ["net"] * n_rare + ["b"] * 30)
    splits = split_examples(examples, 0.7, 0.1, seed=1)
    assert [label_counts(part).get("net", 0) for part in splits.named().values()] == [n_rare, 0, 0]
    assert splits.facts == {"labels_in_train_only": {"net": n_rare}}
    assert any("'net'" in note for note in splits.notes)
    again = split_examples(examples, 0.7, 0.1, seed=1)
    assert [part.texts for part in again.named().values()] == [part.texts for part in splits.named().values()]


def test_rows_like_those_of_a_rare_label_go_with_them() -> None:
    text = "please fetch the parcel from the counter today"
    examples = many(["a"] * 30 + ["b"] * 30, [*(f"text {at} {at * 7919}" for at in range(57)), text, text, text])
    examples = replace(examples, labels=[*(examples.labels or [])[:58], "net", "b"])
    splits = split_examples(examples, 0.7, 0.1, seed=1)
    near = find_duplicates([text for part in splits.named().values() for text in part.texts]).near
    n_train = len(splits.train)
    assert splits.train.texts.count(text) == 3
    assert not set(near[:n_train]) & set(near[n_train:])


def test_splits_without_rare_labels_are_unchanged() -> None:
    rows = split_examples(many(["a", "b", "c"] * 20), 0.7, 0.1, seed=1).named()
    assert [int(text.split()[3]) for text in rows["validation"].texts] == [2, 5, 12, 42, 43, 49]


@pytest.mark.parametrize(
    "labels", [["a", "a", "b", "b"], [str(at) for at in range(50)], ["a"] * 6 + ["b", "c", "d"] * 4]
)
def test_data_that_is_mostly_rare_labels(labels: list[str]) -> None:
    counts = {label: labels.count(label) for label in labels}
    if min(counts.values()) >= 3:
        assert len(split_examples(many(labels), 0.6, 0.2, seed=1).train)
        return
    with pytest.raises(DataError, match="too few for one in each of train, validation, test"):
        split_examples(many(labels), 0.6, 0.2, seed=1)


def test_folds_train_on_rare_labels_and_test_none() -> None:
    examples = many(["a"] * 20 + ["net"] * 2 + ["b"] * 20)
    cut = cut_folds(examples, 5, seed=1)
    assert cut.rare == {"net": 2}
    assert cut.apart.tolist() == [20, 21]
    assert sorted(np.concatenate(cut.sides).tolist()) == [*range(20), *range(22, 42)]
    with pytest.raises(DataError, match="'net'"):
        cut_rows(examples, [0.5, 0.3, 0.2], ["x", "y", "z"], 1, "reject")


def test_min_rows_leaves_labels_out_of_every_split() -> None:
    splits = Splits(many(["a"] * 5 + ["b"] * 5 + ["c"] * 2), None, many(["a", "c", "b"]))
    found = leave_out_rare(splits, 3)
    assert label_counts(found.train) == {"a": 5, "b": 5}
    assert found.test is not None
    assert found.test.labels == ["a", "b"]
    assert [found.test.number_of(at) for at in range(2)] == [1, 3]
    assert found.facts == {"labels_left_out": {"c": 2}}
    assert leave_out_rare(splits, 1) is splits
    with pytest.raises(DataError, match="--min-rows 9"):
        leave_out_rare(splits, 9)


def test_min_rows_of_sets_leaves_out_rows_until_no_label_is_too_rare() -> None:
    sets = [["a"]] * 5 + [["b", "c"], ["b", "c"], ["b"]]
    found = leave_out_rare(Splits(from_lists([f"t{at}" for at in range(8)], sets, separator="|"), None, None), 3)
    assert found.train.labels == ["a"] * 5
    assert found.facts == {"labels_left_out": {"c": 2, "b": 1}}


# Conflicts --------------------------------------------------------------------------------------------------------


def test_texts_that_differ_in_digits_are_not_a_conflict() -> None:
    hosts = [f"{name} answered the client with code" for name in ("the alpha host", "the beta host", "the gamma host")]
    texts = [f"{host} {code}" for host in hosts for code in (404, 500)]
    found = audit_splits({"train": many(["missing", "broken"] * 3, texts)})
    assert found.conflicts == ()
    assert [variant.kind for variant in found.variants] == ["digits"] * 3
    assert found.findings() == ()
    assert any("only in digits" in note for note in found.notes())


def test_texts_that_differ_in_case_or_space_are_a_conflict() -> None:
    texts = [
        "please fetch the parcel 12 today",
        "Please  fetch the parcel 12 today",
        "please fetch the parcel 13 today",
    ]
    found = audit_splits({"train": many(["a", "b", "b"], texts)})
    assert [(conflict.kind, [row.row for row in conflict.rows]) for conflict in found.conflicts] == [
        ("normalised", [1, 2])
    ]
    question = ["shall we fetch the parcel today?", "shall we fetch the parcel today!"]
    assert [variant.kind for variant in audit_splits({"train": many(["a", "b"], question)}).variants] == ["punctuation"]
