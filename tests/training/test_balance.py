"""Uneven labels: rows of an epoch, and probabilities that mean real frequencies again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lasttoken.training.balance import epoch_rows, label_weights, prior_shift

LABEL_IDS = st.lists(st.integers(0, 3), min_size=1, max_size=60).map(np.array)


@given(LABEL_IDS, st.integers(0, 9))
def test_oversampling_keeps_every_row_and_makes_labels_even(label_ids: np.ndarray, seed: int) -> None:
    rows = epoch_rows(label_ids, "oversample", seed)
    assert set(rows.tolist()) == set(range(len(label_ids)))
    n_rows = np.bincount(label_ids[rows])
    assert set(n_rows[n_rows > 0].tolist()) == {int(np.bincount(label_ids).max())}


@given(LABEL_IDS, st.integers(0, 9))
def test_undersampling_repeats_nothing_and_makes_labels_even(label_ids: np.ndarray, seed: int) -> None:
    rows = epoch_rows(label_ids, "undersample", seed)
    assert len(set(rows.tolist())) == len(rows)
    counts = np.bincount(label_ids)
    n_rows = np.bincount(label_ids[rows])
    assert set(n_rows[n_rows > 0].tolist()) == {int(counts[counts > 0].min())}


@pytest.mark.parametrize("balance", ["none", "weights"])
def test_otherwise_an_epoch_is_all_rows_in_their_order(balance: str) -> None:
    assert epoch_rows(np.array([1, 0, 0]), balance, 5).tolist() == [0, 1, 2]


@given(LABEL_IDS)
def test_weights_give_every_label_the_same_say(label_ids: np.ndarray) -> None:
    weights = label_weights(label_ids, 4)
    say = np.bincount(label_ids, weights=weights[label_ids], minlength=4)
    assert say[say > 0] == pytest.approx(len(label_ids) / 4, rel=1e-5)


def test_the_shift_gives_back_the_real_frequencies() -> None:
    """A classifier that knows nothing, trained evenly, says 1/K; corrected, it says how often labels come."""
    n_rows = np.array([90, 9, 1])
    probs = np.exp(prior_shift(n_rows)) / np.exp(prior_shift(n_rows)).sum()
    assert probs == pytest.approx(n_rows / 100, rel=1e-5)
