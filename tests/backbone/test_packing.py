"""Packed texts, whole and in groups of similar lengths: nothing is lost, and little is padded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lasttoken.backbone.packing import MIN_LENGTH_RATIO, Packing

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=20)


@given(LENGTHS)
def test_groups_hold_every_text_once_beside_texts_of_similar_length(lengths: list[int]) -> None:
    groups = Packing(lengths).groups
    assert sorted(size for group in groups for size in group.sizes) == sorted(lengths)
    assert all(min(group.sizes) >= MIN_LENGTH_RATIO * group.longest for group in groups)


@given(LENGTHS)
def test_padding_by_groups_and_back_changes_nothing(lengths: list[int]) -> None:
    packing = Packing(lengths)
    packed = torch.arange(2.0 * sum(lengths)).view(-1, 2)
    padded = packing.pad_groups(packed)
    assert [piece.shape[:2] for piece in padded] == [(group.n_texts, group.longest) for group in packing.groups]
    tokens_of_text = {tuple(text[0].tolist()): text for text in torch.split(packed, lengths)}
    for piece, group in zip(padded, packing.groups, strict=True):
        for rows, n in zip(piece, group.sizes, strict=True):
            text = tokens_of_text[tuple(rows[0].tolist())]
            assert torch.equal(rows[:n], text)
            assert torch.equal(rows[n:], text[-1:].expand(len(rows) - n, 2)), "padding is of the text itself"
    assert torch.equal(packing.unpad_groups(padded), packed)


def test_the_texts_of_a_group_begin_at_their_rows() -> None:
    packing = Packing([4, 9, 5, 8])
    first, second = packing.pad_groups(torch.arange(26.0))
    assert first[:, 0].tolist() == [4, 18]
    assert second[:, 0].tolist() == [13, 0]


def test_gradients_go_through_groups() -> None:
    packing, packed = Packing([1, 9, 2]), torch.randn(12, 3, requires_grad=True)
    packing.unpad_groups(2 * piece for piece in packing.pad_groups(packed)).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(packed.grad, torch.full((12, 3), 2.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("around", [(0, 0), (2, 0), (0, 3), (2, 3)])
@settings(deadline=None)
@given(n_own=st.lists(st.integers(0, 9), min_size=1, max_size=9))
def test_a_mean_counts_the_tokens_between_those_around_a_text(around: tuple[int, int], n_own: list[int]) -> None:
    """And all tokens where there are no others."""
    lengths = [max(n + sum(around), 1) for n in n_own]
    packing, packed = Packing(lengths), torch.randn(sum(lengths), 4, dtype=torch.float64)
    for mean, text in zip(packing.mean(packed, around), torch.split(packed, lengths), strict=True):
        own = text[around[0] : len(text) - around[1]]
        torch.testing.assert_close(mean, (own if len(own) else text).mean(0), atol=1e-12, rtol=0)


@pytest.mark.parametrize("lengths", [[5, 5, 5], [10, 9, 8], [7]])
def test_one_group_is_the_packing_itself(lengths: list[int]) -> None:
    packing = Packing(lengths)
    assert packing.groups == [packing]


def test_a_gpu_gets_one_group_however_lengths_differ() -> None:
    packing = Packing([50, 1], "meta")
    assert packing.groups == [packing]
