"""Linear models of baselines: the time of a fit is bounded, and the better model is chosen on validation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from lasttoken.evaluation import linear_models
from lasttoken.evaluation.linear_models import CannotFitError, fit_multinomial, fit_one_vs_rest


@pytest.mark.parametrize(("max_updates", "epochs"), [(linear_models.MAX_UPDATES, 10), (1.0, 1)])
def test_many_labels_are_fitted_in_a_bounded_number_of_epochs(
    monkeypatch: pytest.MonkeyPatch, max_updates: float, epochs: int
) -> None:
    monkeypatch.setattr(linear_models, "MAX_EXACT", 1.0)
    monkeypatch.setattr(linear_models, "MAX_UPDATES", max_updates)
    ids = np.tile(np.arange(40), 20)
    features = csr_matrix(np.eye(40)[ids])
    model = fit_multinomial(features, ids, 40, seed=0)
    assert model.linear.n_iter_ == epochs
    assert (model.predict(features).log_probs.argmax(axis=1) == ids).mean() > 0.9


def test_the_svm_replaces_logistic_regression_only_where_it_is_better_on_validation() -> None:
    random = np.random.default_rng(0)
    ids = np.arange(60) % 3
    features = csr_matrix(np.eye(3)[ids] + random.normal(0, 0.7, (60, 3)))
    for truth in (ids, (ids + 1) % 3):
        model = fit_multinomial(features, ids, 3, 0, lambda truth=truth: (features, truth))  # type: ignore[misc]
        logistic = fit_multinomial(features, ids, 3, 0)
        n_right, n_logistic = (
            (each.predict(features).log_probs.argmax(1) == truth).sum() for each in (model, logistic)
        )
        assert n_right >= n_logistic
        assert ("SVM" in " ".join(model.notes)) == (n_right > n_logistic)
        assert np.exp(model.predict(features).log_probs).sum(axis=1) == pytest.approx(np.ones(60))


def test_constant_labels_keep_their_frequency() -> None:
    features = csr_matrix(np.eye(4))
    truth = np.array([[True, False, True], [True, False, False], [True, False, True], [True, False, False]])
    probs = fit_one_vs_rest(features, truth, seed=0).predict(features).probs
    assert probs is not None
    assert probs[:, :2].tolist() == [[1.0, 0.0]] * 4
    assert 0 < probs[0, 2] < 1


def test_one_label_cannot_be_fitted() -> None:
    with pytest.raises(CannotFitError, match="one label"):
        fit_multinomial(csr_matrix(np.eye(2)), np.zeros(2, dtype=np.int64), 2, seed=0)
