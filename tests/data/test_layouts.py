"""Folders of one text a file, and splits in shards as the Hugging Face hub has them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lasttoken.config import resolve
from lasttoken.data.gather import gather_splits
from lasttoken.errors import DataError


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
