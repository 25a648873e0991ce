"""Findings as sentences."""

from __future__ import annotations

from lasttoken.audit.audit import Audit
from lasttoken.audit.collecting import audit_splits
from lasttoken.audit.sentences import about_leaks, rows_in_words
from lasttoken.data.files import Examples


def found_in(texts: list[str], labels: list[str] | None = None) -> Audit:
    return audit_splits({"data": Examples(texts, labels or ["ab"[at % 2] for at in range(len(texts))])})


def test_long_lists_are_cut_in_sentences_only() -> None:
    assert rows_in_words(list(range(1, 405))) == "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 394 more"
    assert len(found_in([""] * 404).to_json()["splits"]["data"]["empty"]) == 404


def test_only_kinds_of_leaks_that_occur_are_named() -> None:
    kinds = {"exact": 0, "normalised": 48, "near": 0}
    (one_kind,) = about_leaks({("test", "train"): kinds})
    assert one_kind.startswith("48 test rows are also in train, except for case")
    (two_kinds,) = about_leaks({("test", "train"): {**kinds, "near": 1}})
    assert two_kinds.startswith("49 test rows are also in train: 48 identical except")
    assert "0 identical" not in two_kinds


def test_a_split_without_exact_repeats_has_no_count_of_them() -> None:
    words = "the quick brown fox jumps over one lazy dog in the morning"
    (repeats,) = (note for note in found_in([words, words.upper()]).notes() if "earlier row" in note)
    assert repeats == "1 row of data repeats an earlier row except for case, digits or punctuation"
