"""Counts of label pairs against scikit-learn, and draws that keep the number of rows of each label."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from lasttoken.evaluation import confusion
from lasttoken.evaluation.confusion import Confusion

TRUTH = np.array([0, 0, 0, 1, 1, 2, 2, 2])
PREDICTED = np.array([0, 0, 1, 1, 1, 0, 0, 2])


def test_counts_and_metrics_are_scikit_learns() -> None:
    pairs = Confusion.of(TRUTH, PREDICTED, 3)
    matrix = pairs.dense()
    assert matrix is not None
    assert (matrix == sk.confusion_matrix(TRUTH, PREDICTED)).all()
    assert pairs.confused() == [(2, 0, 2), (0, 1, 1)]
    scores = pairs.scores()
    assert float(scores.mcc) == pytest.approx(sk.matthews_corrcoef(TRUTH, PREDICTED))
    assert float(scores.macro_f1) == pytest.approx(sk.f1_score(TRUTH, PREDICTED, average="macro"))
    assert float(scores.balanced_accuracy) == pytest.approx(sk.balanced_accuracy_score(TRUTH, PREDICTED))


def test_many_labels_have_no_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusion, "MAX_DENSE_LABELS", 2)
    assert Confusion.of(TRUTH, PREDICTED, 3).dense() is None


def test_draws_vary_around_the_counts() -> None:
    drawn = Confusion.of(np.repeat(TRUTH, 50), np.repeat(PREDICTED, 50), 3).drawn(seed=0)
    exact = Confusion.of(TRUTH, PREDICTED, 3).scores()
    assert drawn.recall.shape[1] == 3
    assert drawn.recall.mean(axis=0) == pytest.approx(exact.recall, abs=0.02)
    assert drawn.recall.std(axis=0).min() > 0
    assert drawn.n_predicted.sum(axis=1) == pytest.approx(np.full(len(drawn.n_predicted), 400.0), abs=2)
