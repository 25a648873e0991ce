"""Splits share no text and no group, keep the fractions, and notes say where they cannot."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_examples import NAMES, made, parts_of

from lasttoken.core.errors import DataError, SettingsError
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.label_tables import label_counts
from lasttoken.data.splitting.cutting import cut_validation, split_examples
from lasttoken.data.splitting.near_duplicates import normalise
from lasttoken.data.splitting.splits import count_shared_texts


def test_same_seed_same_splits_other_seed_others() -> None:
    examples = made("ab" * 100, [f"text {at // 2 * 2 if at % 7 == 0 else at}" for at in range(200)])
    assert split_examples(examples, 0.7, 0.1, 5) == split_examples(examples, 0.7, 0.1, 5)
    assert split_examples(examples, 0.7, 0.1, 5).test != split_examples(examples, 0.7, 0.1, 6).test


def test_every_row_may_be_anywhere() -> None:
    """A row alone and a row of a pair are in train as often as the fraction says."""
    examples = made("ab" * 30, [f"text {at if at >= 20 else at // 4 * 2 + at % 2}" for at in range(60)])
    in_train = Counter(
        text for seed in range(200) for text in set(split_examples(examples, 0.6, 0.2, seed).train.texts)
    )
    shares = [in_train[text] / 200 for text in set(examples.texts)]
    assert min(shares) > 0.4
    assert max(shares) < 0.8


EXAMPLES = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 60), st.integers(0, 80)), min_size=0, max_size=120
).map(lambda rows: [*rows, *((label, 1000 + at, 1000 + at) for at in range(20) for label in "abc")])


@settings(max_examples=60, deadline=None)
@given(EXAMPLES, st.integers(0, 5), st.booleans())
def test_splits_share_nothing_and_lose_nothing(rows: list[tuple[str, int, int]], seed: int, grouped: bool) -> None:
    examples = Examples(
        [f"text {text}" for _, text, _ in rows],
        [label for label, _, _ in rows],
        ids=[str(at) for at in range(len(rows))],
        groups=["" if group < 20 else f"group {group}" for _, _, group in rows] if grouped else None,
    )
    splits = split_examples(examples, 0.6, 0.2, seed)
    parts = parts_of(splits)
    assert sorted(int(key) for part in parts for key in part.ids or []) == list(range(len(rows)))
    for part in parts:
        assert [int(key) for key in part.ids or []] == sorted(int(key) for key in part.ids or [])
        assert set(part.labels or []) == {"a", "b", "c"}
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not set(parts[one].texts) & set(parts[other].texts)
        assert not (set(parts[one].groups or []) & set(parts[other].groups or [])) - {""}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=60, max_size=150), st.integers(0, 5))
def test_labels_are_spread_though_texts_repeat(texts: list[int], seed: int) -> None:
    """Repeated texts of one label: each label's share of each split is the fraction, to within a large text."""
    examples = made(
        "".join("ab"[text % 2] for text in texts) + "ab" * 20, [*map(str, texts), *(f"x{at}" for at in range(40))]
    )
    largest = max(Counter(examples.texts).values())
    counts = label_counts(examples)
    for part, fraction in zip(parts_of(split_examples(examples, 0.6, 0.2, seed)), (0.6, 0.2, 0.2), strict=True):
        for label, count in label_counts(part).items():
            assert abs(count - counts[label] * fraction) <= largest


def test_notes_tell_of_repeats_and_of_missed_fractions() -> None:
    splits = split_examples(made("ab" * 50, ["same"] * 90 + [f"text {at}" for at in range(10)]), 0.7, 0.1, 1)
    assert splits.notes[0] == "89 rows repeat the text of another row; identical texts are kept in one split"
    assert splits.notes[1].startswith("train has 9")
    assert "of 100 rows instead of 70, because rows that share a text or a group" in splits.notes[1]


def noted(n_exact: int, n_near: int, kept: str) -> str:
    nearly = "rows nearly repeat the text of another row"
    if not n_exact:
        return f"{n_near} {nearly}; {kept}"
    return f"{n_exact} rows repeat the text of another row and {n_near} more nearly repeat one; {kept}"


def test_nearly_equal_texts_are_kept_together() -> None:
    """Pairs that differ in a letter, in case or in a number are on one side, for every seed."""
    stories = [f"{word} went to the market to buy bread, salt and a new lamp, {word}" for word in NAMES]
    texts = [*stories, *(story.replace("salt", "malt") for story in stories), *(story.upper() for story in stories)]
    examples = made("ab" * (len(texts) // 2), texts)
    for seed in range(10):
        splits = split_examples(examples, 0.6, 0.2, seed)
        for part in parts_of(splits):
            assert set(Counter(normalise(text).split()[0] for text in part.texts).values()) == {3}
        kept = "texts that are nearly equal are kept in one split"
        assert splits.notes[0] == noted(0, 2 * len(stories), kept)


def test_templates_that_leave_no_fair_split_are_cut_by_equality() -> None:
    """All of label b is one template: its rows cannot be kept together, and a note says so."""
    template = "Your parcel number {} waits for you at the post office, please come and pick it up"
    other = [" ".join([name] * 8) for name in NAMES]
    texts = [*other, *(template.format(at) for at in range(len(NAMES))), other[0], other[0]]
    splits = split_examples(made("a" * len(NAMES) + "b" * len(NAMES) + "aa", texts), 0.6, 0.2, seed=1)
    assert all(label_counts(part).keys() == {"a", "b"} for part in parts_of(splits))
    assert splits.notes[0].startswith(noted(2, len(NAMES) - 1, "only identical texts are kept in one split"))
    assert "may be optimistic" in splits.notes[0]
    assert sum(other[0] in part.texts for part in parts_of(splits)) == 1


def test_a_chain_of_nearly_equal_texts_is_cut_by_what_normalising_makes_equal() -> None:
    """Each text of label b is nearly the next one, and half of its rows differ from another in case only."""
    words = [f"{name}wards" for name in NAMES for _ in range(4)]
    chain = [" ".join(words[at : at + 30]) for at in range(20)]
    other = [" ".join([name] * 8) for name in NAMES]
    texts = [*other, *chain, *(text.upper() for text in chain)]
    splits = split_examples(made("a" * len(other) + "b" * 40, texts), 0.6, 0.2, seed=1)
    assert "texts that differ only by case, digits or punctuation are kept in one split" in splits.notes[0]
    for one, other_part in combinations(parts_of(splits), 2):
        assert not set(map(normalise, one.texts)) & set(map(normalise, other_part.texts))


def test_groups_that_are_unfair_anyway_do_not_part_nearly_equal_texts() -> None:
    """One group holds nine tenths of the rows, so no meaning of "one text" is fair: the widest is kept."""
    texts = [" ".join([name] * 8) for name in NAMES for _ in range(10)]
    texts = [text.upper() if at % 10 == 9 else text for at, text in enumerate(texts)]
    groups = ["big" if at < 0.9 * len(texts) else "" for at in range(len(texts))]
    labels = "".join("ab"[at // 10 % 2] for at in range(len(texts)))
    few = made(labels + "ab" * 10, [*texts, *(f"text {at}" for at in range(20))], [*groups, *[""] * 20])
    splits = split_examples(few, 0.6, 0.2, seed=1)
    assert splits.notes[0].endswith("texts that are nearly equal are kept in one split")


def test_validation_is_cut_by_the_same_rules_and_notes_say_so() -> None:
    texts = [" ".join([name] * 8) for name in NAMES]
    cut = cut_validation(made("ab" * len(texts), [*texts, *map(str.upper, texts)]), 0.2, seed=1)
    train, validation = cut.train, cut.named()["validation"]
    assert not set(map(normalise, train.texts)) & set(map(normalise, validation.texts))
    assert cut.notes == (noted(0, len(texts), "texts that are nearly equal are kept in one split"),)


def test_cut_validation() -> None:
    cut = cut_validation(made("ab" * 50, groups=[str(at // 5) for at in range(100)]), 0.2, seed=1)
    train, validation = cut.train, cut.named()["validation"]
    assert (len(train), len(validation)) == (80, 20)
    assert not set(train.groups or []) & set(validation.groups or [])
    with pytest.raises(SettingsError, match=r"--validation-fraction is 1.5"):
        cut_validation(train, 1.5, 1)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (made("aaaa"), "a.csv has only one label, 'a'; a classifier needs examples of at least two labels"),
        (made(""), "a.csv has no examples"),
        (
            made("aabbb", [*"12333"]),
            "label 'a' of a.csv has 2 rows, too few for one in each of train, validation, test",
        ),
        (made("aabbc"), r"label 'c' of a.csv has 1 row, .* \(2 other labels "),
        (made("aaaabbb", [*"123455", "5"]), "label 'b' of a.csv has 3 rows but only 1 independent of each other"),
        (
            made("aaaabbb", groups=["", "", "", "", "u", "v", "u"]),
            "label 'b' of a.csv has 3 rows but only 2 independent",
        ),
        (made("aabbabab", groups=[*"ABABCCDD"]), None),
    ],
)
def test_data_that_cannot_be_split(examples: Examples, message: str | None) -> None:
    if message is None:
        assert len(split_examples(examples, 0.6, 0.2, 1).train) > 0
        return
    with pytest.raises(DataError, match=message):
        split_examples(examples, 0.6, 0.2, 1)


@pytest.mark.parametrize("fractions", [(0.9, 0.1), (0.0, 0.5), (0.5, 0.0), (0.9, 0.3)])
def test_fractions_that_leave_nothing(fractions: tuple[float, float]) -> None:
    with pytest.raises(SettingsError, match=r"leave nothing for one of train, validation and test"):
        split_examples(made("ab" * 20), *fractions, seed=1)


def test_sms_splits(sms_file: Path) -> None:
    splits = split_examples(read_examples(sms_file), 0.7, 0.1, 123)
    assert splits.test is not None
    assert splits.validation is not None
    assert count_shared_texts(splits.train, splits.test) == count_shared_texts(splits.train, splits.validation) == 0
    assert [label_counts(part) for part in parts_of(splits)] == [
        {"ham": 3379, "spam": 523},
        {"ham": 483, "spam": 75},
        {"ham": 965, "spam": 149},
    ]
