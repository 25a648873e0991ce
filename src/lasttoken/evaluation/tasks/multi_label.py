"""The task of any number of labels for each text: a binary cross-entropy, sigmoid and threshold of each label."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.metric_registry import HEADLINES, Kind
from lasttoken.evaluation.calibration import fit_temperature_multilabel
from lasttoken.evaluation.decision import Decision, thresholds_in_words
from lasttoken.evaluation.decision_flags import parse_label_thresholds
from lasttoken.evaluation.intervals import Difference
from lasttoken.evaluation.linear_models import LinearModel, fit_one_vs_rest
from lasttoken.evaluation.metrics import LogProbs
from lasttoken.evaluation.multilabel import (
    MultiLabelMetrics,
    compute_multilabel_metrics,
    micro_f1_difference,
    row_losses,
)
from lasttoken.evaluation.tasks.task import Bools, Ids, SplitMetrics, Task, Truth
from lasttoken.evaluation.thresholds import best_thresholds

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MultiLabel(Task):
    """Each text has any number of the K labels, also none.

    >>> task = MultiLabel(("joy", "love"), "|")
    >>> task.joined(task.decide(np.log([[0.8, 0.6], [0.3, 0.1]]), Decision()))
    ['joy|love', '']
    """

    between: str = "|"  # the labels of a text in a file

    kind: ClassVar[Kind] = "multi-label"
    multi_label: ClassVar[bool] = True
    headline: ClassVar[str] = HEADLINES["multi-label"]
    probability_function: ClassVar[str] = "sigmoid"
    problem_type: ClassVar[str] = "multi_label_classification"
    labels_per_text: ClassVar[str] = "any number"
    accuracy_metric: ClassVar[str] = "subset_accuracy"
    has_confusion: ClassVar[bool] = False
    always_uneven: ClassVar[bool] = True

    @property
    def separator(self) -> str:
        """The string between the labels of a text in a file."""
        return self.between

    def loss(
        self,
        logits: Tensor,
        truth: Tensor,
        label_weights: Tensor | None = None,
        row_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """The mean binary cross-entropy of the B·K decisions; weights are for single-label tasks.

        torch has no label smoothing here: a target y is y·(1 - ε) + ε/2, each decision being one between two labels.
        """
        from torch.nn.functional import binary_cross_entropy_with_logits

        assert label_weights is None  # core/checks.py rejects --balance with --multi-label
        assert row_weights is None
        targets = truth.to(logits.dtype)
        if label_smoothing:
            targets = targets * (1 - label_smoothing) + label_smoothing / 2
        return binary_cross_entropy_with_logits(logits, targets)

    def fit_temperature(self, logits: NDArray[np.float32], truth: Truth) -> float:
        """The temperature that minimizes the binary cross-entropy of logits [N, K] / temperature."""
        return fit_temperature_multilabel(logits, truth)

    def fit_decision(self, decision: Decision, log_probs: LogProbs, truth: Truth, auto: bool) -> Decision:
        """Fit a threshold for each label that the rule does not name; see `best_thresholds`."""
        fitted = best_thresholds(truth, np.exp(log_probs.astype(np.float64))).tolist()
        return decision.over(Decision(thresholds=tuple(enumerate(fitted))))

    def label_frequencies(self, truth: Truth) -> NDArray[np.float64]:
        """The fraction of rows with each label, [K]; the fractions add up to the mean number of labels of a row."""
        return np.asarray(truth.mean(axis=0), dtype=np.float64)

    def fit_linear(
        self, features: Any, truth: Truth, seed: int, validation: Callable[[], tuple[Any, Truth]] | None
    ) -> LinearModel:
        """Fit one model for each label against the rest, to features [N, F] and truth [N, K]."""
        return fit_one_vs_rest(features, np.asarray(truth, dtype=bool), seed)

    def _log_probs(self, logits: NDArray[np.float32]) -> LogProbs:
        return np.asarray(-np.logaddexp(np.float32(0), -logits), dtype=np.float32)

    def row_losses(self, log_probs: LogProbs, truth: Truth) -> NDArray[np.float64]:
        """The mean binary cross-entropy of the K decisions."""
        return row_losses(np.asarray(truth, dtype=np.bool_), np.exp(log_probs.astype(np.float64)))

    def decide(self, log_probs: LogProbs, decision: Decision) -> Bools:
        """Which labels each row reaches the threshold of, bool [N, K]."""
        return decision.decide_each(log_probs)

    def answered(self, log_probs: LogProbs, decision: Decision) -> Bools:
        """All rows [N] are answered: no label is an answer too."""
        return np.ones(len(log_probs), dtype=np.bool_)

    def given_label_ids(self, log_probs: LogProbs, decision: Decision) -> list[list[int]]:
        """The label ids of each row that reach their thresholds, the most probable first."""
        return [
            sorted(np.flatnonzero(has).tolist(), key=lambda label_id, row=row: -row[label_id])  # type: ignore[misc]
            for has, row in zip(decision.decide_each(log_probs), log_probs, strict=True)
        ]

    def log_odds(self, logits: Tensor, label_id: int) -> Tensor:
        """The logit of the label, [B]: a sigmoid's log-odds are its argument."""
        return logits[:, label_id]

    def parse_decision(self, threshold: str | None, cost: str | None) -> Decision:
        """The rule that `decision_flags.parse_label_thresholds` reads."""
        return parse_label_thresholds(threshold, cost, self.labels)

    def change_decision(self, decision: Decision, threshold: str | None, cost: str | None) -> Decision:
        """Labels that are not named keep their thresholds."""
        return self.parse_decision(threshold, cost).over(decision)

    def rule_in_words(self, decision: Decision) -> str:
        """The thresholds as `decision.thresholds_in_words` words them."""
        return thresholds_in_words(decision, self.labels)

    def lost_rule(self, decision: Decision) -> str:
        """The thresholds are lost: transformers gives scores, or the one label with the highest."""
        return "thresholds are not kept: pass top_k=None and compare scores with those in README.md"

    def rule_for_scores(self, decision: Decision) -> str:
        """Each score is compared with the threshold of its label."""
        values = ", ".join(f"{self.labels[label_id]} {threshold:.3f}" for label_id, threshold in decision.thresholds)
        return (
            "A text has each label whose score reaches its threshold (pass top_k=None to get all scores): "
            f"{values or '0.5 for all'}."
        )

    def has_own_rule(self, decision: Decision) -> bool:
        """Always true, because the thresholds are fitted."""
        return True

    def _metrics(
        self,
        truth: Truth,
        log_probs: LogProbs,
        probs: NDArray[np.float64] | None,
        predicted: Truth | None,
        intervals: bool,
    ) -> MultiLabelMetrics:
        return compute_multilabel_metrics(
            truth,
            self.labels,
            probs=np.exp(log_probs.astype(np.float64)) if probs is None else probs,
            predicted=predicted,
            intervals=intervals,
        )

    def difference(self, truth: Truth, a: Truth, b: Truth, groups: NDArray[np.intp] | None = None) -> Difference:
        """The difference of the two micro-F1; see `micro_f1_difference`."""
        return micro_f1_difference(truth, a, b, groups=groups)

    def row_values(self, truth: Truth, predicted: Truth) -> NDArray[np.float64]:
        """Micro-F1 and the influence of each row on it, which is its change to first order."""
        hits = 2.0 * (truth & predicted).sum(axis=1)
        given = (truth.sum(axis=1) + predicted.sum(axis=1)).astype(np.float64)
        total = max(float(given.sum()), 1.0)
        value = float(hits.sum()) / total
        return np.asarray(value + (hits - value * given) * len(truth) / total, dtype=np.float64)

    def evidence(self, difference: Difference, n_rows: int) -> str:
        """The number of rows, and how the interval was computed."""
        return f"By micro-F1 on {n_rows:,} rows (95 % interval of the paired difference, by bootstrap)."

    @property
    def points(self) -> str:
        """The unit is hundredths of micro-F1."""
        return "points of micro-F1"

    def majority_in_words(self, metrics: SplitMetrics) -> str:
        """The majority baseline predicts each label by its frequency; its metric is micro-F1."""
        assert isinstance(metrics, MultiLabelMetrics)
        return f"predicting labels by frequency alone (micro-F1 {metrics.micro_f1:.3f})"

    def reliability_rows(self, log_probs: LogProbs, truth: Truth) -> tuple[NDArray[np.floating], Ids]:
        """All N·K yes-or-no decisions: log-probabilities [N·K, 2] and which of the two is true, [N·K]."""
        yes = log_probs.ravel().astype(np.float64)
        no = np.log(np.maximum(-np.expm1(yes), np.finfo(np.float64).tiny))
        return np.stack((no, yes), axis=1), truth.ravel().astype(np.int64)

    def slice_keys(self, truth: Truth) -> dict[str, Sequence[str]]:
        """The rows are sliced by their number of labels."""
        return {"labels": [f"{n} {'label' if n == 1 else 'labels'}" for n in truth.sum(axis=1).tolist()]}

    def truth_from_ids(self, label_ids: Sequence[Sequence[int]]) -> Bools:
        """Which labels each row has, bool [N, K]."""
        truth = np.zeros((len(label_ids), len(self.labels)), dtype=np.bool_)
        for row, row_ids in enumerate(label_ids):
            truth[row, list(row_ids)] = True
        return truth

    def read_as_ids(self, spellings: Collection[str]) -> dict[str, int]:
        """Nothing: label ids are not accepted in place of labels."""
        return {}

    def dominated_label(self, counts: Mapping[str, int], ratio: float) -> str | None:
        """None: each label already has a fitted threshold."""
        return None

    def labels_field(self, labels: Sequence[str]) -> dict[str, list[str]]:
        """The predicted labels, none or several."""
        return {"labels": list(labels)}

    def has_label(self, answers: Truth, label_id: int) -> Bools:
        """Which rows [N] have the label: its column of the matrix."""
        return np.asarray(answers[:, label_id], dtype=np.bool_)

    def has_labels(self, answers: Truth) -> Bools:
        """The matrix itself, bool [N, K]."""
        return np.asarray(answers, dtype=np.bool_)

    def join(self, label_ids: Sequence[int]) -> str:
        """The labels with the separator between them."""
        return self.between.join(self.labels[label_id] for label_id in label_ids)

    def joined(self, answers: Truth) -> list[str]:
        """The labels of each row, in their own order."""
        return [self.join(np.flatnonzero(row).tolist()) for row in answers]

    def n_given(self, predicted: Truth) -> int:
        """The number of labels that at least one row is given."""
        return int(predicted.any(axis=0).sum())

    def explained_label_ids(self, log_probs: LogProbs, predicted: Truth) -> Ids:
        """The label id of the most probable label of each row, [N]."""
        return np.asarray(log_probs.argmax(axis=1), dtype=np.int64)

    def is_confident_error(self, log_probs: LogProbs, truth: Truth, correct: Bools) -> Bools:
        """Which rows [N] are wrong and do not have their most probable label."""
        return np.asarray(~correct & ~truth[np.arange(len(truth)), log_probs.argmax(axis=1)].astype(bool))

    def margins(self, log_probs: LogProbs) -> NDArray[np.float32]:
        """How far the label nearest to even odds is from them in log-probability, [N]."""
        return np.asarray(np.abs(log_probs - np.log(0.5)).min(axis=1))
