"""What an audit collects: faulty rows, duplicates, leaks, conflicts, lengths, imbalance."""

from __future__ import annotations

import random
from pathlib import Path

from miniature import framed_tokenizer, small_tokenizer

from lasttoken.audit.audit import Audit
from lasttoken.audit.collecting import audit_splits
from lasttoken.audit.reading import read_for_audit
from lasttoken.data.book import book_splits
from lasttoken.data.files import Examples
from lasttoken.data.splitting.cutting import split_examples

LONG = "You have won a guaranteed prize of 1000 pounds, call the number below before the lines close"


LETTERS = "abcdefghijklmnopqrstuvwxyz"


def noise(n: int, seed: int = 1, n_words: int = 12) -> list[str]:
    """Texts of random words: nothing is alike, nothing tells a label."""
    rng = random.Random(seed)
    return [" ".join("".join(rng.choices(LETTERS, k=5)) for _ in range(n_words)) for _ in range(n)]


def found_in(texts: list[str], labels: list[str] | None = None) -> Audit:
    return audit_splits({"data": Examples(texts, labels or ["ab"[at % 2] for at in range(len(texts))])})


def test_rows_at_fault_are_numbered_from_one() -> None:
    texts = ["", "fine one", "   ", "cafÃ©", "0800 555", "fine two"]
    found = found_in(texts, ["a", "", "b", "b", "a", " "])
    split = found.splits["data"]
    assert (split.empty, split.blank, split.unlabelled) == ((1,), (3,), (2, 6))
    assert (split.hardly_text, split.damaged) == ((5,), {4: "Ã©"})
    assert split.labels == {"a": 2, "b": 2}
    rows = ("(row 1)", "(row 3)", "(rows 2, 6)", "(row 4)")
    assert all("of data" in finding and row in finding for finding, row in zip(found.findings(), rows, strict=True))
    (note,) = found.notes()
    assert "of data" in note
    assert "(row 5)" in note


def test_duplicates_leaks_and_conflicts() -> None:
    other = noise(4)
    train = Examples([LONG, other[0], LONG, "ok", other[3]], ["spam", "ham", "spam", "ham", "ham"])
    test = Examples(
        [other[1], LONG.upper(), LONG, "ok", "OK", "", LONG.replace("guaranteed", "guarantee")],
        ["ham", "spam", "ham", "ham", "ham", "ham", "spam"],
    )
    splits = {"train": train, "test": test}
    found = audit_splits(splits)
    assert found.splits["train"].repeats == {"exact": 1, "normalised": 1, "near": 1}
    assert found.splits["test"].repeats == {"exact": 0, "normalised": 1, "near": 2}
    assert found.n_leaks() == {("test", "train"): {"exact": 2, "normalised": 1, "near": 1}}
    assert [(leak.kind, leak.row.row, leak.earlier.row) for leak in found.leaks] == [
        ("exact", 3, 1),
        ("exact", 4, 4),
        ("normalised", 2, 1),
        ("near", 7, 1),
    ]
    (conflict,) = found.conflicts
    assert conflict.kind == "normalised"
    assert [(row.split, row.row, row.label) for row in conflict.rows] == [
        ("train", 1, "spam"),
        ("train", 3, "spam"),
        ("test", 2, "spam"),
        ("test", 3, "ham"),
    ]
    leaks, conflicting = found.findings()[:2]
    assert leaks.startswith("4 test rows are also in train: 2 identical, 1 ")
    assert "optimistic" in leaks
    assert conflicting == "1 text has different labels in different rows (4 rows)"
    assert found.leaked_rows()["test"].tolist() == [False, True, True, True, False, False, True]
    assert found.leaked_rows("exact")["test"].tolist() == [0, 0, 1, 1, 0, 0, 0]


def test_blank_rows_are_not_leaks() -> None:
    blank = Examples(["", " "], ["a", "b"])
    found = audit_splits({"train": blank, "test": blank})
    assert found.leaks == ()
    assert found.conflicts == ()


def test_a_row_of_two_earlier_splits_leaks_from_each() -> None:
    one = Examples([LONG], ["a"])
    found = audit_splits({"train": one, "validation": one, "test": one})
    assert list(found.n_leaks()) == [("validation", "train"), ("test", "train"), ("test", "validation")]


def test_tokens_and_what_is_cut() -> None:
    found = audit_splits({"train": Examples(["abcd", "the"], ["a", "b"])}, tokenizer=small_tokenizer(), max_length=3)
    split = found.splits["train"]
    assert split.tokens is not None
    assert split.cut is not None
    assert (split.tokens.longest, split.cut.n_texts, split.cut.n_tokens) == (4, 1, 1)
    assert any(note.startswith("1 text of train would be cut to 3 tokens: 1 token ") for note in found.notes())
    assert (split.characters.p5, split.characters.longest) == (3, 4)


def test_the_tokenizers_frame_counts_as_tokens() -> None:
    found = audit_splits({"train": Examples(["abcd", "the"], ["a", "b"])}, tokenizer=framed_tokenizer(), max_length=3)
    split = found.splits["train"]
    assert split.tokens is not None
    assert split.cut is not None
    assert (split.tokens.longest, split.cut.n_texts, split.cut.n_tokens) == (5, 1, 2)


def test_imbalance_is_a_note() -> None:
    found = found_in(noise(110), ["a"] * 105 + ["b"] * 5)
    (note,) = found.notes()
    assert note.startswith("data has 21 times as many rows of 'a' as of 'b'")


def test_the_sms_collection_and_the_books_splits(sms_file: Path) -> None:
    (examples,) = read_for_audit([sms_file]).values()
    assert found_in(examples.texts, examples.labels).splits["data"].repeats["exact"] == 403
    files = audit_splits(read_for_audit([sms_file.parent / "book-split"]))
    assert files.n_leaks()["test", "train"]["exact"] == 36
    notebook, _ = book_splits(sms_file, shuffles=1)
    assert audit_splits(notebook.named()).n_leaks()["test", "train"]["exact"] == 37


def test_the_default_split_leaks_nothing(sms_file: Path) -> None:
    (examples,) = read_for_audit([sms_file]).values()
    splits = split_examples(examples, 0.7, 0.1, 123)
    assert audit_splits(splits.named()).leaks == ()
    assert splits.notes[0].endswith("texts that are nearly equal are kept in one split")
