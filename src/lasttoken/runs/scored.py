"""The classifier on one split: calibrated probabilities, predictions and metrics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lasttoken.classifier.classifier import ClassifierConfig
from lasttoken.evaluation.tasks.task import SplitMetrics, Task, Truth


@dataclass(frozen=True)
class Scored:
    """The classifier on one split."""

    task: Task
    truth: Truth
    log_probs: NDArray[np.float32]  # [N, K], calibrated
    predicted: Truth  # by the decision rule
    answered: NDArray[np.bool_]  # [N], False where the classifier abstains
    metrics: SplitMetrics

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which rows [N] are predicted correctly."""
        return self.metrics.correct

    def answer_probs(self) -> NDArray[np.float64]:
        """The probability [N] of each prediction, or of the most probable label of a multi-label task."""
        label_ids = self.explained_label_ids()
        return np.asarray(np.exp(self.log_probs[np.arange(len(label_ids)), label_ids]), dtype=np.float64)

    def explained_label_ids(self) -> NDArray[np.int64]:
        """The label [N] of `answer_probs`."""
        return self.task.explained_label_ids(self.log_probs, self.predicted)


def score_split(config: ClassifierConfig, truth: Truth, logits: NDArray[np.float32], intervals: bool) -> Scored:
    """Probabilities, predictions and metrics of N rows from their logits [N, K], by the classifier's decision rule.

    `intervals`: whether to compute all metrics and all intervals.
    """
    task = config.task
    log_probs = task.log_probs(logits, config.temperature)
    predicted, answered = task.decide(log_probs, config.decision), task.answered(log_probs, config.decision)
    metrics = task.metrics(truth, log_probs=log_probs, predicted=predicted, intervals=intervals)
    return Scored(task, truth, log_probs, predicted, answered, metrics)
