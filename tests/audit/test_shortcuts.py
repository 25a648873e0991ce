"""Shortcuts by word and by length are found, and measured on held-out rows."""

from __future__ import annotations

import random

import numpy as np

from lasttoken.audit.audit import Audit
from lasttoken.audit.collecting import audit_splits
from lasttoken.audit.shortcuts import find_shortcuts
from lasttoken.data.files import Examples
from lasttoken.data.splitting.near_duplicates import find_duplicates

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def noise(n: int, seed: int = 1, n_words: int = 12) -> list[str]:
    """Texts of random words: nothing is alike, nothing tells a label."""
    rng = random.Random(seed)
    return [" ".join("".join(rng.choices(LETTERS, k=5)) for _ in range(n_words)) for _ in range(n)]


def found_in(texts: list[str], labels: list[str] | None = None) -> Audit:
    return audit_splits({"data": Examples(texts, labels or ["ab"[at % 2] for at in range(len(texts))])})


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
