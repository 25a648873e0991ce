"""Our order against torch's own DataLoader, which draws from the global generator."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from lasttoken.training.order import Order, batches

passes = st.lists(st.tuples(st.booleans(), st.integers(1, 40), st.integers(0, 6)), min_size=1, max_size=6)


def loader_batches(n: int, batch_size: int, shuffle: bool, drop_last: bool, first: int) -> list[list[int]]:
    """What a loop sees that leaves a DataLoader after `first` batches (at least one), as the chapter's do."""
    found = []
    loader: DataLoader[Tensor] = DataLoader(range(n), batch_size, shuffle=shuffle, drop_last=drop_last)  # type: ignore[arg-type]
    for batch in loader:
        found.append(batch.tolist())
        if len(found) >= first:
            break
    return found


@given(seed=st.integers(0, 2**32 - 1), wanted=passes, batch_size=st.integers(1, 9), drop_last=st.booleans())
@settings(max_examples=60, deadline=None)
def test_mixed_passes_give_the_batches_of_dataloaders(
    seed: int, wanted: list[tuple[bool, int, int]], batch_size: int, drop_last: bool
) -> None:
    order = Order(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for shuffle, n, first in wanted:
            rows = order.shuffled(n) if shuffle else order.in_order(n)
            ours = batches(rows, batch_size, drop_last)[: max(first, 1)]
            assert ours == loader_batches(n, batch_size, shuffle, drop_last, first)


def test_reseeding_starts_over_as_manual_seed_does() -> None:
    order = Order(5)
    first = order.shuffled(30), order.in_order(30), order.shuffled(30)
    order.reseed(5)
    assert (order.shuffled(30), order.in_order(30), order.shuffled(30)) == first
    assert first[0] != first[2]


def test_an_order_goes_on_from_its_state_and_leaves_torchs_generator_alone() -> None:
    before = torch.random.get_rng_state()
    order, other = Order(123), Order(9)
    order.shuffled(10)
    state = order.state.clone()
    expected = [order.shuffled(50), order.in_order(3), order.shuffled(50)]
    other.restore(state)
    assert [other.shuffled(50), other.in_order(3), other.shuffled(50)] == expected
    assert torch.equal(torch.random.get_rng_state(), before)


@given(n=st.integers(0, 30), batch_size=st.integers(1, 9))
def test_batches_hold_every_row_once_and_drop_last_only_what_does_not_fill_one(n: int, batch_size: int) -> None:
    rows = list(range(n))
    whole, dropped = batches(rows, batch_size), batches(rows, batch_size, drop_last=True)
    assert [row for batch in whole for row in batch] == rows
    assert dropped == [batch for batch in whole if len(batch) == batch_size]
