"""Folders of one text a file, and splits in shards as the Hugging Face hub has them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lasttoken.audit.reading import read_for_audit
from lasttoken.core.errors import DataError
from lasttoken.core.resolve import resolve
from lasttoken.data.files import read_examples
from lasttoken.data.gather import gather_splits


def write_texts(folder: Path, n: int) -> None:
    for label in ("pos", "neg"):
        (folder / label).mkdir(parents=True)
        for i in range(n):
            (folder / label / f"{i}_7.txt").write_text(f"text {folder.name} {label} {i}\nsecond line\n")


def test_one_text_a_file(tmp_path: Path) -> None:
    write_texts(tmp_path / "reviews", 20)
    splits = gather_splits(tmp_path / "reviews", resolve("default"), lambda _: None)
    assert sum(len(examples) for examples in splits.named().values()) == 40
    assert set(splits.train.labels or ()) == {"neg", "pos"}
    assert splits.train.texts[0].endswith("second line")


def test_one_text_a_file_for_each_split(tmp_path: Path) -> None:
    write_texts(tmp_path / "train", 20)
    write_texts(tmp_path / "test", 5)
    (tmp_path / "train" / "unsup").mkdir()
    (tmp_path / "train" / "unsup" / "0_0.txt").write_text("not labelled")
    said: list[str] = []
    splits = gather_splits(tmp_path, resolve("default"), said.append)
    assert splits.test is not None
    assert (len(splits.test), set(splits.train.labels or ())) == (10, {"neg", "pos"})
    assert any("unsup" in sentence for sentence in said)


@pytest.mark.parametrize("inner", ["", "data"])
def test_shards_of_the_hub(tmp_path: Path, inner: str) -> None:
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    for shard in range(2):
        rows = {"text": [f"word {shard} {i}" for i in range(10)], "label": ["a", "b"] * 5}
        pq.write_table(pa.table(rows), folder / f"train-0000{shard}-of-00002.parquet")
    pq.write_table(pa.table({"text": ["x", "y"], "label": ["a", "b"]}), folder / "validation-00000-of-00001.parquet")
    splits = gather_splits(tmp_path, resolve("default"), lambda _: None)
    assert splits.validation is not None
    assert (len(splits.train), len(splits.validation)) == (20, 2)
    (folder / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(DataError, match="1 of the 2 shards of train"):
        gather_splits(tmp_path, resolve("default"), lambda _: None)


TABLE = {"text": [f"word {i}" for i in range(20)], "label": ["a", "b"] * 10}


def test_texts_below_a_labels_folder_are_read_and_others_are_named(tmp_path: Path) -> None:
    write_texts(tmp_path, 10)
    (tmp_path / "pos" / "deep").mkdir()
    (tmp_path / "pos" / "deep" / "more.txt").write_text("one more")
    (tmp_path / "neg" / "blank.txt").write_text(" \n")
    (tmp_path / "extra.csv").write_text("text,label\nlost,pos\n")
    said: list[str] = []
    splits = gather_splits(tmp_path, resolve("default"), said.append)
    texts = [text for examples in splits.named().values() for text in examples.texts]
    assert (len(texts), "one more" in texts) == (21, True)
    assert any("neg/blank.txt" in sentence for sentence in said)
    assert any("extra.csv" in sentence for sentence in said)


def test_texts_without_a_suffix(tmp_path: Path) -> None:
    for split, n in (("20news-bydate-train", 20), ("20news-bydate-test", 5)):
        write_texts(tmp_path / split, n)
        for path in list((tmp_path / split).rglob("*.txt")):
            path.rename(path.with_suffix(""))
    splits = gather_splits(tmp_path, resolve("default"), lambda _: None)
    assert splits.test is not None
    assert len(splits.test) == 10


def test_files_of_splits_come_before_folders_of_texts(tmp_path: Path) -> None:
    write_texts(tmp_path, 3)
    rows = "".join(f"{text},{label}\n" for text, label in zip(TABLE["text"], TABLE["label"], strict=True))
    (tmp_path / "train.csv").write_text(f"text,label\n{rows}")
    assert set(gather_splits(tmp_path, resolve("default"), lambda _: None).train.labels or ()) == {"a", "b"}


@pytest.mark.parametrize(
    "name",
    ["default/train/0000.parquet", "train/part-0.parquet", "plain_text/train-00000-of-00001.parquet"],
)
def test_a_folder_for_each_split_or_configuration(tmp_path: Path, name: str) -> None:
    for split in ("train", "test"):
        path = tmp_path / name.replace("train", split)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(TABLE), path)
    splits = gather_splits(tmp_path, resolve("default"), lambda _: None)
    assert splits.test is not None
    assert len(splits.test) == 20


def test_two_configurations_are_named(tmp_path: Path) -> None:
    for name in ("english", "german"):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table(TABLE), tmp_path / name / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match="'english', 'german'"):
        gather_splits(tmp_path, resolve("default"), lambda _: None)


def write_stream(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


def saved_to_disk(folder: Path) -> None:
    """As save_to_disk of `datasets`: streams in an order that state.json tells."""
    for number in range(2):
        write_stream(folder / f"data-0000{number}-of-00002.arrow", pa.table(TABLE))
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": f"data-0000{number}-of-00002.arrow"} for number in range(2)]})
    )
    (folder / "dataset_info.json").write_text("{}")


def test_save_to_disk(tmp_path: Path) -> None:
    saved_to_disk(tmp_path / "all" / "train")
    saved_to_disk(tmp_path / "all" / "test")
    (tmp_path / "all" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    splits = gather_splits(tmp_path / "all", resolve("default"), lambda _: None)
    assert splits.test is not None
    assert len(splits.test) == 40
    saved_to_disk(tmp_path / "one")
    splits = gather_splits(tmp_path / "one", resolve("default"), lambda _: None)
    assert sum(len(examples) for examples in splits.named().values()) == 40


def test_arrow_files_and_streams_are_read(tmp_path: Path) -> None:
    table = pa.table({**TABLE, "bytes": [b"\xff\x00"] * 20})
    write_stream(tmp_path / "a.arrow", table)
    with pa.ipc.new_file(tmp_path / "b.feather", table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    for name in ("a.arrow", "b.feather"):
        assert read_examples(tmp_path / name).labels == TABLE["label"]
    (tmp_path / "cut.arrow").write_bytes((tmp_path / "b.feather").read_bytes()[:200])
    with pytest.raises(DataError, match=r"cut\.arrow"):
        read_examples(tmp_path / "cut.arrow")


def test_audit_reads_the_same_folders(tmp_path: Path) -> None:
    write_texts(tmp_path / "train", 5)
    write_texts(tmp_path / "test", 2)
    (tmp_path / "test" / "pos" / "blank.txt").write_text("")
    assert {name: len(examples) for name, examples in read_for_audit([tmp_path]).items()} == {"train": 10, "test": 5}
