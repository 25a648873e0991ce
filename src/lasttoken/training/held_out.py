"""Rows that are held out to choose something: the validation split, or in turn each fold of train and validation.

    many validation rows      train ─► fit          validation ─► score
    few of them               4 of 5 folds ─► fit   the fifth  ─► score      five times: each row is held out once

A handful of validation rows chooses by chance, and rows that are only validated on are missing where rows are few. So
below `FEW_ROWS` the folds are used, unless the user gave a validation split. Copies of a text are in one fold.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lasttoken.classifier.encoding import Encoded
from lasttoken.core.metric_registry import METRICS
from lasttoken.evaluation.tasks.task import Task, Truth

FEW_ROWS = 250  # of validation, below which train and validation are divided into folds
N_FOLDS = 5

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Rows to fit to, and rows to score."""

    fitted: Rows
    scored: Rows


def parts_of(encoded: Sequence[Encoded], truth: Truth, *, may_fold: bool, seed: int) -> list[Part]:
    """The parts of the rows of train and validation, whose texts are `encoded` and whose labels `truth` [N].

    Validation alone is held out if it has many rows or `may_fold` is false.
    """
    n_train, n_validation = map(len, encoded)
    rows = np.arange(n_train + n_validation, dtype=np.int64)
    texts = [split.ids_of([row]).tobytes() for split in encoded for row in range(len(split))]
    groups = np.unique(np.array(texts, dtype=object), return_inverse=True)[1]
    n_folds = min(N_FOLDS, int(groups.max(initial=0)) + 1)
    if truth.ndim == 1:
        n_folds = min(n_folds, int(np.bincount(truth).max()))
    if not may_fold or n_validation >= FEW_ROWS or n_folds < 2:
        return [Part(rows[:n_train], rows[n_train:])]
    parts = [Part(np.setdiff1d(rows, fold), fold) for fold in _folds(truth, groups, n_folds, seed)]
    parts = [_without_unseen_labels(part, truth) for part in parts]
    return [part for part in parts if len(part.scored)] or [Part(rows[:n_train], rows[n_train:])]


def _folds(truth: Truth, groups: Rows, n_folds: int, seed: int) -> list[Rows]:
    from sklearn.model_selection import KFold, StratifiedGroupKFold

    shuffled = {"n_splits": n_folds, "shuffle": True, "random_state": seed}
    if truth.ndim == 2:
        of_groups = KFold(**shuffled).split(np.unique(groups))
        return [np.flatnonzero(np.isin(groups, fold)) for _, fold in of_groups]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label with fewer rows than folds
        folds = StratifiedGroupKFold(**shuffled).split(groups, truth, groups)
        return [np.asarray(fold, dtype=np.int64) for _, fold in folds if len(fold)]


def _without_unseen_labels(part: Part, truth: Truth) -> Part:
    """The part without scored rows of a label that no fitted row has, which no classifier could predict."""
    if truth.ndim == 2:
        return part
    return Part(part.fitted, part.scored[np.isin(truth[part.scored], truth[part.fitted])])


@dataclass(frozen=True)
class Score:
    """How good predictions for held-out rows are."""

    value: float  # of the metric that chooses
    loss: float  # at the best temperature, so that a confident and a cautious classifier compare fairly
    higher_is_better: bool

    @property
    def rank(self) -> tuple[float, float]:
        """Orders scores, the best last: by the metric, or by the loss where the metric is the same."""
        return (self.value if self.higher_is_better else -self.value, -self.loss)


def best_place(scores: Sequence[Score]) -> int:
    """The place of the best score; of equal ones the first."""
    return max(range(len(scores)), key=lambda place: scores[place].rank)


def calibrated_losses(task: Task, logits: NDArray[np.float32], truth: Truth) -> NDArray[np.float64]:
    """The loss of each row at the best temperature, [N]."""
    return task.row_losses(task.log_probs(logits, task.fit_temperature(logits, truth)), truth)


def mean_and_error(differences: NDArray[np.float64]) -> tuple[float, float]:
    """The mean of paired differences [N], and its standard error.

    >>> mean_and_error(np.array([1.0, 3.0]))
    (2.0, 1.0)
    """
    return float(differences.mean()), float(differences.std() / np.sqrt(max(len(differences) - 1, 1)))


def score_of(task: Task, logits: NDArray[np.float32], truth: Truth, metric: str) -> Score:
    """The score of logits [N, K]; `metric` is a value of --metric."""
    log_probs = task.log_probs(logits, task.fit_temperature(logits, truth))
    metrics = task.metrics(truth, log_probs=log_probs)
    value, loss = metrics.value(metric), metrics.value("loss")
    assert value is not None
    assert loss is not None
    return Score(float(value), float(loss), METRICS[metric].direction == "max")
