"""The audit finds what is planted, and says nothing of clean data."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from miniature import small_tokenizer

from lasttoken.audit.audit import Audit
from lasttoken.audit.collecting import audit_splits
from lasttoken.audit.reading import read_for_audit
from lasttoken.audit.sentences import rows_in_words
from lasttoken.audit.shortcuts import find_shortcuts
from lasttoken.audit.text_quality import damage_in, hardly_text, script_shares
from lasttoken.core.errors import DataError
from lasttoken.data.book import book_splits
from lasttoken.data.cutting import split_examples
from lasttoken.data.files import Examples
from lasttoken.data.near_duplicates import find_duplicates

LONG = "You have won a guaranteed prize of 1000 pounds, call the number below before the lines close"
UNUSED = (0x81, 0x8D, 0x8F, 0x90, 0x9D)  # by cp1252
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def noise(n: int, seed: int = 1, n_words: int = 12) -> list[str]:
    """Texts of random words: nothing is alike, nothing tells a label."""
    rng = random.Random(seed)
    return [" ".join("".join(rng.choices(LETTERS, k=5)) for _ in range(n_words)) for _ in range(n)]


def found_in(texts: list[str], labels: list[str] | None = None) -> Audit:
    return audit_splits({"data": Examples(texts, labels or ["ab"[at % 2] for at in range(len(texts))])})


# Damage and scripts


def read_wrongly(character: str, encoding: str) -> str:
    """UTF-8 read as another encoding; bytes that cp1252 does not have stay control characters, as in browsers."""
    return "".join(bytes([byte]).decode(encoding if byte not in UNUSED else "latin-1") for byte in character.encode())


@pytest.mark.parametrize("character", [chr(code) for code in range(0xA0, 0x100)] + list("’“”—…€™😀"))
def test_utf8_read_wrongly_is_damage(character: str) -> None:
    for encoding in ("cp1252", "latin-1"):
        assert damage_in(f"wo{read_wrongly(character, encoding)}rd")
    assert damage_in(f"wo{character}rd") is None


def test_longer_damage_and_what_only_looks_like_it() -> None:
    for text in ("Привет, мир", "こんにちは", "Γειά σου"):
        assert damage_in(text) is None
        assert damage_in(text.encode().decode("latin-1"))
    assert damage_in("half a \ufffd") == "\ufffd"
    for fine in ("IRMÃ…", "«CHÂTEAU»", "passé…»", "É”", "ÅÄÖ – åäö", "naïve café", "Â", "à »", "50 €", "ÃO", "ÄÖÜß"):
        assert damage_in(fine) is None, fine


def test_scripts_and_rows_that_are_hardly_text() -> None:
    assert script_shares(["Привет", "ok", "12 !"]) == {"Cyrillic": 0.75, "Latin": 0.25}
    assert script_shares(["12", ""]) == {}
    texts = ["fine", "0800 123 456", ":-)", "", "  ", "你好!", "किताब", "ok :-)", "😀😀"]
    assert hardly_text(texts).tolist() == [False, True, True, False, False, False, False, False, True]


# Shortcuts


def test_a_planted_word_is_named() -> None:
    texts, labels = noise(400), ["ab"[at % 2] for at in range(400)]
    planted = ["zq17x" + text[5:] if label == "b" else text for text, label in zip(texts, labels, strict=True)]
    assert not any(one.is_strong for one in find_shortcuts(texts, labels, np.arange(400)))
    best = next(one for one in find_shortcuts(planted, labels, np.arange(400)) if one.word)
    assert (best.word, best.label, best.share_with, best.share_elsewhere) == ("zq17x", "b", 1.0, 0.0)
    assert best.is_decisive
    (finding,) = found_in(planted, labels).findings()
    assert finding.startswith("'zq17x' occurs in 100% of 'b' and in 0% of all other rows")
    assert "balanced accuracy 100%, 50% by chance" in finding


def test_length_alone() -> None:
    labels = ["ab"[at % 2] for at in range(400)]
    short, long = noise(400, n_words=6), noise(400, 2, n_words=12)
    texts = [short[at] if label == "a" else long[at] for at, label in enumerate(labels)]
    by_length = find_shortcuts(texts, labels, np.arange(400))[0]
    assert by_length.word is None
    assert by_length.balanced_accuracy == 1.0
    assert "the length of a text" in found_in(texts, labels).findings()[0]


def test_the_figure_is_of_rows_the_rule_was_not_chosen_on() -> None:
    """Every word is in one text, often: in-sample, words would tell labels of repeated texts."""
    rng = random.Random(0)
    base = [(text, rng.choice("ab")) for text in noise(60, n_words=4)]
    rows = [one for one in base for _ in range(10)]
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    assert all(one.skill < 0.3 for one in find_shortcuts(texts, labels, find_duplicates(texts).near) if one.word)


def test_too_few_rows_say_nothing() -> None:
    assert find_shortcuts([], [], np.arange(0)) == ()
    assert find_shortcuts(noise(30), ["a", "b"] * 15, np.arange(30)) == ()
    assert find_shortcuts(noise(100), ["a"] * 100, np.arange(100)) == ()


# Splits


def test_clean_data_has_no_findings() -> None:
    found = found_in(noise(300))
    assert found.sentences() == ()
    assert found.splits["data"].repeats == {"exact": 0, "normalised": 0, "near": 0}


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


def test_long_lists_are_cut_in_sentences_only() -> None:
    assert rows_in_words(list(range(1, 405))) == "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 394 more"
    assert len(found_in([""] * 404).to_json()["splits"]["data"]["empty"]) == 404


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
    assert leaks.startswith("4 rows of test are in train too: 2 the same text, 1 ")
    assert "optimistic" in leaks
    assert conflicting == "1 text has different labels in different rows (4 rows)"
    assert found.leaked_rows()["test"].tolist() == [False, True, True, True, False, False, True]
    assert found.leaked_rows("exact")["test"].tolist() == [0, 0, 1, 1, 0, 0, 0]


def test_blank_rows_are_no_leaks() -> None:
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


def test_imbalance_is_a_note() -> None:
    found = found_in(noise(110), ["a"] * 105 + ["b"] * 5)
    (note,) = found.notes()
    assert note.startswith("data has 21 times as many rows of 'a' as of 'b'")


def test_json_is_json_and_whole() -> None:
    train = Examples([LONG, LONG, *noise(200)], ["a", "b", *"ab" * 100])
    content = json.loads(json.dumps(audit_splits({"train": train, "test": train}).to_json()))
    assert len(content["leaks"]) == 202
    assert content["conflicts"][0]["rows"][1] == {"split": "train", "row": 2, "text": LONG, "label": "b"}
    assert content["n_leaks"] == [{"split": "test", "earlier": "train", "exact": 202, "normalised": 0, "near": 0}]
    assert {one["word"] for one in content["shortcuts"]} >= {None}


def test_no_rows_at_all() -> None:
    assert audit_splits({"train": Examples([], [])}).sentences() == ()
    assert audit_splits({"train": Examples([], []), "test": Examples([], [])}).leaked_rows()["test"].tolist() == []


# Reading


def test_files_are_named_by_their_split_train_first(tmp_path: Path) -> None:
    for name in ("test.csv", "train.tsv", "more.csv"):
        separator = "\t" if name.endswith("tsv") else ","
        (tmp_path / name).write_text(f"text{separator}label\nhello{separator}a\n{separator}b\nyou{separator}\n")
    found = read_for_audit([tmp_path / "test.csv", tmp_path / "more.csv", tmp_path / "train.tsv"])
    assert list(found) == ["train", "test", "more.csv"]
    assert found["test"].texts == ["hello", "", "you"]
    assert found["test"].labels == ["a", "b", ""]
    assert list(read_for_audit([tmp_path])) == ["train", "test"]
    with pytest.raises(DataError, match=r"more.csv is named twice"):
        read_for_audit([tmp_path / "more.csv"] * 3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no train.csv, validation.csv or test.csv"):
        read_for_audit([tmp_path / "empty"])


# The SMS collection


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
