"""Linked rows are placed on one side, and every label meets its quota."""

from __future__ import annotations

import pytest
from made_examples import made, parts_of

from lasttoken.core.errors import DataError
from lasttoken.data.files import Examples
from lasttoken.data.label_tables import label_counts
from lasttoken.data.splitting import placing as module
from lasttoken.data.splitting.cutting import split_examples


def test_quotas_are_exact() -> None:
    splits = split_examples(made("a" * 100 + "b" * 50 + "c" * 10), 0.7, 0.1, seed=1)
    counts = [label_counts(part) for part in parts_of(splits)]
    assert counts == [{"a": 70, "b": 35, "c": 7}, {"a": 10, "b": 5, "c": 1}, {"a": 20, "b": 10, "c": 2}]
    assert splits.notes == ()


def test_groups_join_through_texts() -> None:
    """Group g1 and group g2 share a text: their rows are one component, however long the chain."""
    chain_length = 30
    texts = [f"link {at // 2}" for at in range(chain_length)] + [f"text {at}" for at in range(40)]
    groups = [f"g{(at + 1) // 2}" for at in range(chain_length)] + [""] * 40
    splits = split_examples(made("ab" * 35, texts, groups), 0.6, 0.2, seed=3)
    holding = [part for part in parts_of(splits) if any(text.startswith("link") for text in part.texts)]
    assert len(holding) == 1
    assert sum(text.startswith("link") for text in holding[0].texts) == chain_length


def test_few_groups_still_reach_every_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    groups = ["big"] * 10 + ["small"] + ["tiny"] + [f"b{at}" for at in range(12)]
    for seed in range(20):
        parts = parts_of(split_examples(made("a" * 12 + "b" * 12, groups=groups), 0.7, 0.1, seed))
        assert all(label_counts(part).keys() == {"a", "b"} for part in parts)


def test_components_of_several_labels() -> None:
    groups = [f"user {at % 12}" for at in range(120)]
    for seed in range(10):
        parts = parts_of(split_examples(made("abcde" * 24, groups=groups), 0.7, 0.1, seed))
        assert [len(part) for part in parts] == [90, 10, 20] or [len(part) for part in parts] == [80, 10, 30]
        assert all(len(label_counts(part)) == 5 for part in parts)


def test_labels_that_share_groups_cannot_be_split() -> None:
    """A, B, C must be apart for label a, so D joins C for label b, and then c has two splits only."""
    with pytest.raises(DataError, match=r"label '.' of a.csv could not be put in the .* split"):
        split_examples(made("abcabacbc", groups=[*"AAABBCCDD"]), 0.6, 0.2, 1)


def test_a_greedy_dead_end_is_left_again() -> None:
    """Placing the largest groups first alone (one attempt) finds no split here for any of these seeds."""
    examples = made("cbcaacbabbcaabaa", groups=[*"CCEAAECECDDEFFAC"])
    for seed in range(6):
        assert all(len(label_counts(part)) == 3 for part in parts_of(split_examples(examples, 0.6, 0.2, seed)))


def test_many_rare_labels_mean_another_mistake_than_a_few() -> None:
    several = Examples([f"t{at}" for at in range(12)], [f"joy|fear{at}" for at in range(10)] + ["joy", "fear"])
    with pytest.raises(
        DataError, match=r"several labels, separated by '\|', pass --multi-label \(--label-separator '\|'\)"
    ):
        split_examples(several, 0.7, 0.1, 1)
    distinct = Examples([f"t{at}" for at in range(12)], [f"row {at}" for at in range(12)])
    with pytest.raises(DataError, match=r"\(--label\)"):
        split_examples(distinct, 0.7, 0.1, 1)
