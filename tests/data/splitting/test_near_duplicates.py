"""Texts that are alike: what normalising drops, what is found against brute force, and what components are."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lasttoken.data.splitting import near_duplicates as module
from lasttoken.data.splitting.near_duplicates import (
    ENOUGH_CHARACTERS,
    THRESHOLD,
    find_duplicates,
    jaccard_similarity,
    normalise,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
TALE = """the cat sat on a mat while rain fell over old roofs and nobody came home before the lamp went out from grey
hills down into valleys where seven rivers meet"""
WORDS = TALE.split()


def sentence(rng: random.Random, n_words: int = 14) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(n_words))


def edited(rng: random.Random, text: str, n_edits: int) -> str:
    letters = list(text)
    for _ in range(n_edits):
        letters[rng.randrange(len(letters))] = rng.choice("abcdefgh")
    return "".join(letters)


def closure(texts: list[str]) -> list[int]:
    """The first member of each text's component, by every pair."""
    ids = list(range(len(texts)))
    keys = [normalise(text) for text in texts]
    for one, other in combinations(range(len(texts)), 2):
        enough = min(len(keys[one]), len(keys[other])) >= ENOUGH_CHARACTERS
        if texts[one] == texts[other] or (enough and jaccard_similarity(keys[one], keys[other]) >= THRESHOLD):
            low, high = sorted((ids[one], ids[other]))
            ids = [low if at == high else at for at in ids]
    return ids


@given(TEXTS)
def test_normalising_ignores_space_around_and_repeats_nothing(text: str) -> None:
    assert normalise(f"  {text}\n") == normalise(text)
    assert normalise(normalise(text)) == normalise(text)


@given(st.text("abc XYZ 123 .,!?", min_size=1))
def test_normalising_ignores_case_digits_and_more_space(text: str) -> None:
    assert normalise(text.upper()) == normalise(text.replace(" ", "  ")) == normalise(text.replace("1", "7"))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Call 0800-123 NOW!!!", "call 0 0 now"),
        ("GROẞ, Straße", "gross strasse"),
        ("किताब पढ़ी।", "किताब पढ़ी"),  # vowel signs are letters' parts
        ("١٢ رسائل", "0 رسائل"),
        ("😀 ok", "😀 ok"),
        (" ?! ", "?!"),
        ("", ""),
    ],
)
def test_the_normalised_form_of_texts(text: str, plain: str) -> None:
    assert normalise(text) == plain


def test_three_meanings() -> None:
    long = "You have won a guaranteed prize of 1000 pounds, call the number below before the lines close"
    texts = [
        long,
        "message 1",
        long.upper().replace("1000", "2000"),
        long,
        long.replace("guaranteed", "guarantee"),
        "message 2",
        "message 1",
        "something else entirely, which is long enough to be compared with others",
    ]
    found = find_duplicates(texts)
    assert found.exact.tolist() == [0, 1, 2, 0, 4, 5, 1, 7]
    assert found.normalised.tolist() == [0, 1, 0, 0, 4, 5, 1, 7]
    assert found.near.tolist() == [0, 1, 0, 0, 0, 5, 1, 7]


def test_short_texts_are_only_equal_or_not() -> None:
    short, enough = "Ok, see you 1", "Ok, see you in the room 1"
    assert find_duplicates([short, short.upper(), short.replace("1", "2")]).near.tolist() == [0, 1, 2]
    assert find_duplicates([enough, enough.upper(), enough.replace("1", "2")]).near.tolist() == [0, 0, 0]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_components_are_those_of_every_pair(seed: int) -> None:
    """A pair at the threshold is missed once in 500; a component is hardly ever, for its pairs are above."""
    rng = random.Random(seed)
    texts = [sentence(rng) for _ in range(20)]
    texts += [edited(rng, rng.choice(texts), rng.randrange(5)) for _ in range(20)]
    found, truth = find_duplicates(texts).near.tolist(), closure(texts)
    assert sum(a != b for a, b in zip(found, truth, strict=True)) <= 1
    united = [(a, b) for a, b in combinations(range(len(texts)), 2) if found[a] == found[b]]
    assert all(truth[a] == truth[b] for a, b in united), "nothing is united by chance"


def test_nearly_all_pairs_at_the_threshold_are_found() -> None:
    rng = random.Random(3)
    n_found = n_pairs = 0
    for _ in range(1500):
        text = sentence(rng)
        other = edited(rng, text, 2)
        if THRESHOLD <= jaccard_similarity(normalise(text), normalise(other)) < THRESHOLD + 0.05:
            n_pairs += 1
            n_found += find_duplicates([text, other]).near.tolist() == [0, 0]
    assert n_pairs > 100
    assert n_found / n_pairs > 0.97


def test_the_order_of_rows_changes_numbers_only() -> None:
    rng = random.Random(5)
    texts = [sentence(rng) for _ in range(60)]
    texts += [edited(rng, text, 1) for text in texts]
    order = list(range(len(texts)))
    rng.shuffle(order)
    there = find_duplicates(texts).near
    shuffled = find_duplicates([texts[at] for at in order]).near
    for one, other in combinations(range(len(order)), 2):
        assert (shuffled[one] == shuffled[other]) == (there[order[one]] == there[order[other]])
    assert find_duplicates(texts).near.tolist() == there.tolist()


def test_ids_are_first_rows_and_meanings_widen() -> None:
    rng = random.Random(8)
    texts = [rng.choice([sentence(rng, 5), "Ok", "OK", "", " "]) for _ in range(300)]
    found = find_duplicates(texts)
    for ids in found.by_kind().values():
        assert (ids <= np.arange(len(texts))).all()
        assert (ids[ids] == ids).all()
    assert (found.normalised[found.exact] == found.normalised).all()
    assert (found.near[found.normalised] == found.near).all()


@pytest.mark.parametrize("texts", [[], [""], ["a"], ["", ""], ["x" * 25], ["\ud800" * 30, "\ud800" * 30]])
def test_zero_one_and_two_texts(texts: list[str]) -> None:
    assert find_duplicates(texts).near.tolist() == [texts.index(text) for text in texts]


def test_one_template_is_compared_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of one template: comparisons grow with the rows, not with their square."""
    n_compared = 0
    compare = module._are_near

    def counting(one: str, other: str) -> bool:
        nonlocal n_compared
        n_compared += 1
        return compare(one, other)

    monkeypatch.setattr(module, "_are_near", counting)
    rng = random.Random(2)
    base = sentence(rng, 60)
    texts = [edited(rng, base, 1) for _ in range(600)]
    assert np.bincount(find_duplicates(texts).near).max() > 590
    assert n_compared < 4 * len(texts)


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(4)
    texts = [sentence(rng) for _ in range(40)]
    texts += [edited(rng, text, 1) for text in texts]
    whole = find_duplicates(texts).near.tolist()
    monkeypatch.setattr(module, "CHUNK_CHARACTERS", 100)
    assert find_duplicates(texts).near.tolist() == whole
