"""Chapter 6's data against pandas, and byte for byte against its files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lasttoken.core.errors import DataError
from lasttoken.data.book import book_splits, read_as_chapter
from lasttoken.data.files import Examples
from lasttoken.data.folders import write_splits
from lasttoken.data.splitting.splits import SPLIT_NAMES, Splits, count_shared_texts


def parts_of(splits: Splits) -> list[Examples]:
    return list(splits.named().values())


def test_sms_as_the_chapter_reads_it(sms_file: Path) -> None:
    found = read_as_chapter(sms_file)
    frame = pd.read_csv(sms_file, sep="\t", header=None, names=["Label", "Text"])
    assert len(found) == 5572
    assert Counter(found.labels) == {"ham": 4825, "spam": 747}
    assert found.texts == frame["Text"].tolist()
    assert found.labels == frame["Label"].tolist()
    assert "5,574 lines" in found.notes[0]
    assert "5,572 rows" in found.notes[0]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.sampled_from('ab"'), min_size=1).filter(lambda text: text.strip()), min_size=1))
def test_the_chapters_reading_is_pandas(tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "messages"
    path.write_text("".join(f"ham\t{text}\n" for text in texts), "utf-8")
    try:
        frame = pd.read_csv(path, sep="\t", header=None, names=["Label", "Text"], keep_default_na=False)
    except pd.errors.ParserError:
        with pytest.raises(DataError, match=r"never closed"):
            read_as_chapter(path)
        return
    filled = [text for text in frame["Text"] if text.strip()]
    if not filled:
        with pytest.raises(DataError, match=r"no row of messages has both"):
            read_as_chapter(path)
        return
    assert read_as_chapter(path).texts == filled


def pandas_recipe(frame: pd.DataFrame, shuffles: int, seed: int = 123) -> list[pd.DataFrame]:
    """The chapter's balance and split as pandas does them, for the labels ham and spam (the rarer)."""
    spam = frame[frame["label"] == "spam"]
    ham = frame[frame["label"] == "ham"].sample(len(spam), random_state=seed)
    balanced = pd.concat([ham, spam])
    for _ in range(shuffles):
        balanced = balanced.sample(frac=1, random_state=seed).reset_index(drop=True)
    train_end = int(len(balanced) * 0.7)
    validation_end = train_end + int(len(balanced) * 0.1)
    return [balanced[:train_end], balanced[train_end:validation_end], balanced[validation_end:]]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(5, 40), st.integers(0, 60), st.integers(0, 999), st.sampled_from([1, 2]))
def test_book_recipe_is_pandas(tmp_path: Path, n_spam: int, n_more: int, seed: int, shuffles: int) -> None:
    labels = np.random.default_rng(seed).permutation(["spam"] * n_spam + ["ham"] * (n_spam + n_more))
    frame = pd.DataFrame({"text": [f"text {at}" for at in range(len(labels))], "label": labels})
    frame.to_csv(tmp_path / "a.csv", index=False)
    splits, counts = book_splits(tmp_path / "a.csv", seed=seed, shuffles=shuffles)
    for part, expected in zip(parts_of(splits), pandas_recipe(frame, shuffles, seed), strict=True):
        assert part.texts == expected["text"].tolist()
        assert part.labels == expected["label"].tolist()
    assert (counts.n_rows, counts.balanced) == (len(frame), {"ham": n_spam, "spam": n_spam})


def test_book_files_byte_for_byte(sms_file: Path, tmp_path: Path) -> None:
    splits, counts = book_splits(sms_file)
    write_splits(splits, tmp_path, book=True)
    for name in SPLIT_NAMES:
        assert (tmp_path / f"{name}.csv").read_bytes() == (sms_file.parent / "book-split" / f"{name}.csv").read_bytes()
    assert counts.n_rows == 5572
    assert counts.labels == {"ham": 4825, "spam": 747}
    assert counts.balanced == {"ham": 747, "spam": 747}
    assert [len(part) for part in parts_of(splits)] == [1045, 149, 300]
    assert set(splits.train.labels or []) == {"ham", "spam"}


def test_texts_that_the_books_test_split_shares_with_train(sms_file: Path) -> None:
    """37 as the chapter's notebook splits (one shuffle); 36 in the files of its table's script (two)."""
    for shuffles, n_shared in ((1, 37), (2, 36)):
        splits, _ = book_splits(sms_file, shuffles=shuffles)
        assert splits.test is not None
        assert count_shared_texts(splits.train, splits.test) == n_shared


def test_book_recipe_with_more_labels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"t{at},{'abbccc'[at % 6]}\n" for at in range(60)))
    splits, counts = book_splits(tmp_path / "a.csv")
    assert counts.balanced == {"a": 10, "b": 10, "c": 10}
    assert sum((Counter(part.labels) for part in parts_of(splits)), Counter()) == counts.balanced


def test_the_book_recipe_rejects_unsuitable_data(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,x\nb,x\n")
    with pytest.raises(DataError, match=r"a.csv has only one label, 'x'"):
        book_splits(path)
    path.write_text("text,label\na,x\nb,y\n")
    with pytest.raises(DataError, match=r"the 2 balanced rows of a.csv leave none for validation; add examples"):
        book_splits(path)
