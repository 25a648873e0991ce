"""Batches by length: every row once, within the budget, and of about as many tokens each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from miniature import random_encoded

from lasttoken.classifier.encoding import batches_by_length


@given(st.lists(st.integers(1, 600), max_size=200), st.integers(1, 600))
def test_every_row_once_within_the_budget_or_alone(lengths: list[int], budget: int) -> None:
    batches = batches_by_length(np.array(lengths, dtype=np.int64), budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(sum(lengths[row] for row in batch) <= budget or len(batch) == 1 for batch in batches)
    found = [lengths[row] for batch in batches for row in batch]
    assert found == sorted(lengths, reverse=True)


@pytest.mark.parametrize("n_rows", range(3_000, 3_040))
def test_no_batch_is_small_where_texts_are_short(n_rows: int) -> None:
    lengths = np.random.default_rng(n_rows).integers(1, 30, n_rows)
    sizes = [int(lengths[batch].sum()) for batch in batches_by_length(lengths, 512)]
    assert min(sizes) > 450
    assert len(sizes) <= 1.03 * lengths.sum() / 512 + 1


def test_offsets_are_computed_once_and_select_the_tokens_of_rows() -> None:
    encoded = random_encoded(20)
    assert encoded.offsets is encoded.offsets
    by_hand = [
        token for row in (3, 0, 7) for token in encoded.token_ids[encoded.offsets[row] : encoded.offsets[row + 1]]
    ]
    assert encoded.ids_of([3, 0, 7]).tolist() == by_hand
