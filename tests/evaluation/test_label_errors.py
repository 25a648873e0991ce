"""Likely label errors: the definition by hand, and planted ones found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lasttoken.evaluation.label_errors import confident_joint, rank_suspects


def test_the_confident_joint_by_hand() -> None:
    # thresholds: label 0: (0.9 + 0.6 + 0.3) / 3 = 0.6; label 1: (0.8 + 0.2) / 2 = 0.5
    p = np.array([0.9, 0.6, 0.3, 0.2, 0.8])
    joint = confident_joint(np.stack((p, 1 - p), 1), np.array([0, 0, 0, 1, 1]))
    np.testing.assert_allclose(joint, [[2, 1], [1, 1]])


def test_rows_below_every_threshold_are_not_counted_and_the_rest_is_scaled() -> None:
    # thresholds: label 0: (0.9 + 0.9 + 0.45) / 3 = 0.75; label 1: 0.8
    p = np.array([0.9, 0.9, 0.45, 0.2])
    joint = confident_joint(np.stack((p, 1 - p), 1), np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(joint, [[3, 0], [0, 1]])


def test_the_ranking_by_hand() -> None:
    probs = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.3, 0.3, 0.4]])
    found = rank_suspects(np.log(probs).astype(np.float32), np.array([0, 0, 2]))
    assert found.order.tolist() == [1, 2, 0]
    assert found.suggested.tolist() == [1, 2, 0]
    np.testing.assert_allclose(found.margins, [0.5, -0.5, 0.1], atol=1e-6)


@pytest.mark.parametrize("n_labels", [2, 6])
def test_planted_errors_come_first_and_their_number_is_estimated(n_labels: int) -> None:
    rng = np.random.default_rng(1)
    n, n_flipped = 4000, 200
    true = rng.integers(0, n_labels, n)
    logits = rng.normal(size=(n, n_labels)) + 6.0 * (np.arange(n_labels) == true[:, None])
    log_probs = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
    flipped = rng.choice(n, n_flipped, replace=False)
    given_ids = true.copy()
    given_ids[flipped] = (true[flipped] + rng.integers(1, n_labels, n_flipped)) % n_labels
    found = rank_suspects(log_probs, given_ids)
    assert np.isin(found.order[:n_flipped], flipped).mean() > 0.95
    assert abs(found.n_estimated - n_flipped) < 0.15 * n_flipped
    assert (found.suggested[flipped] == true[flipped]).mean() > 0.95


@given(st.integers(1, 30), st.integers(2, 5), st.integers(0, 1000))
def test_the_joint_keeps_the_counts_of_the_given_labels(n: int, n_labels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(n_labels), n)
    label_ids = rng.integers(0, n_labels, n)
    joint = confident_joint(probs, label_ids)
    np.testing.assert_allclose(joint.sum(1), np.bincount(label_ids, minlength=n_labels))
    assert (joint >= 0).all()
