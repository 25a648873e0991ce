"""The solver against scikit-learn's LogisticRegression, which computes the same in float64 along other axes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lasttoken.training.linear import Design, LinearPath


def rows(n: int, width: int, n_labels: int, seed: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Correlated features of very different scales, one of them constant, and labels that depend on them."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, width)) @ rng.normal(size=(width, width))
    logits = mixed @ rng.normal(size=(width, n_labels)) / width + rng.gumbel(size=(n, n_labels))
    features = mixed * np.logspace(-2, 2, width) + np.linspace(0, 50, width)
    features[:, 1] = 3.0
    return features.astype(np.float32), logits.argmax(1)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


@pytest.mark.parametrize(("n", "width"), [(200, 30), (25, 60)])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_distribution_equals_scikit_learns(n: int, width: int, weighted: bool) -> None:
    features, ids = rows(n, width, 4)
    weights = np.random.default_rng(2).uniform(0.5, 2, n) if weighted else None
    if weights is not None:
        weights[:2] = 0  # as if they were not there
    z = StandardScaler().fit_transform(features.astype(np.float64))
    design, rows_used = Design.of(features), np.arange(n)
    path = LinearPath(design, rows_used, np.eye(4, dtype=bool)[ids], exclusive=True, weights=weights, tolerance=1e-7)
    for strength in (1e-3, 1e-2, 1.0):
        head = path.solve(strength)
        theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000).fit(z, ids, sample_weight=weights)
        np.testing.assert_allclose(np.exp(log_softmax(head.logits(features))), theirs.predict_proba(z), atol=1e-3)


def test_several_labels_are_one_regression_for_each() -> None:
    features, ids = rows(150, 20, 3)
    truth = np.eye(3, dtype=bool)[ids] | np.eye(3, dtype=bool)[rows(150, 20, 3, seed=5)[1]]
    z = StandardScaler().fit_transform(features.astype(np.float64))
    head = LinearPath(Design.of(features), np.arange(150), truth, exclusive=False, tolerance=1e-7).solve(0.05)
    for label_id in range(3):
        theirs = LogisticRegression(C=0.05, tol=1e-8, max_iter=10_000).fit(z, truth[:, label_id])
        np.testing.assert_allclose(head.logits(features)[:, label_id], theirs.decision_function(z), atol=5e-3)


def test_weights_shrink_towards_the_target() -> None:
    """Against a plain minimization of the same loss, and in the limit of a strong penalty."""
    features, ids = rows(80, 10, 3)
    truth, target = np.eye(3, dtype=bool)[ids], np.random.default_rng(4).normal(size=(3, 10))
    sd = features.std(0)
    z = (features - features.mean(0)) / np.where(sd > 1e-4, sd, np.inf)

    def loss(flat: NDArray[np.float64]) -> float:
        weight, bias = flat[:30].reshape(3, 10), flat[30:]
        log_probs = log_softmax(z @ weight.T + bias)
        return float(-log_probs[truth].sum() + ((weight - target) ** 2).sum() / (2 * 0.1))

    best = minimize(loss, np.zeros(33), options={"gtol": 1e-6}).x
    plain = log_softmax(z @ best[:30].reshape(3, 10).T + best[30:])
    raw = np.where(sd > 1e-4, target / np.where(sd > 1e-4, sd, 1), 0)
    path = LinearPath(Design.of(features), np.arange(80), truth, exclusive=True, target=raw, tolerance=1e-7)
    np.testing.assert_allclose(path.solve(1e-9).weight, raw, atol=1e-4 * abs(raw).max())
    np.testing.assert_allclose(log_softmax(path.solve(0.1).logits(features)), plain, atol=2e-3)


def test_folds_may_share_a_design_and_fit_to_some_of_its_rows() -> None:
    features, ids = rows(120, 12, 3)
    fitted = np.arange(0, 120, 2)
    z = StandardScaler().fit_transform(features.astype(np.float64))
    path = LinearPath(Design.of(features), fitted, np.eye(3, dtype=bool)[ids[fitted]], exclusive=True, tolerance=1e-7)
    theirs = LogisticRegression(C=0.1, tol=1e-8, max_iter=10_000).fit(z[fitted], ids[fitted])
    ours = np.exp(log_softmax(path.solve(0.1).logits(features)))
    np.testing.assert_allclose(ours, theirs.predict_proba(z), atol=1e-3)


def test_a_number_that_does_not_vary_gets_no_weight_and_few_axes_are_the_largest() -> None:
    features, ids = rows(60, 8, 3)
    head = LinearPath(Design.of(features), np.arange(60), np.eye(3, dtype=bool)[ids], exclusive=True).solve(1.0)
    assert not head.weight[:, 1].any()
    whole, few = Design.of(features), Design.of(features, most_axes=3)
    np.testing.assert_allclose(few.spread, whole.spread[-3:], rtol=1e-5)


def test_hopeless_rows_of_many_labels_overflow_nothing() -> None:
    """A row far from all others has logits beyond what exp can take in float32; warnings are errors here."""
    features = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    features[0] *= 1e6
    truth = features[:, :2] > 0
    design = Design.of(features)
    path = LinearPath(design, np.arange(40), truth, exclusive=False)
    path.solution = np.full_like(path.solution, 1e3)
    assert np.isfinite(path.solve(1.0).weight).all()
