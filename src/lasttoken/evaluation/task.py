"""The task of a classifier: one label for each text, or any number of labels. All that differs between the two is here.

                      SingleLabel                          MultiLabel
    truth             label_ids [N]                        whether a text has each label, bool [N, K]
    loss              cross-entropy                        binary cross-entropy of each label
    probabilities     softmax over the K labels            sigmoid of each logit
    prediction        the most probable label              each label from its threshold on
    headline metric   accuracy                             micro-F1

Predictions have the shape of the truth. The rest of the code asks the task and never which of the two it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.errors import DivergedError
from lasttoken.core.metric_registry import HEADLINES, Kind
from lasttoken.evaluation.added_metrics import added_metrics, computed_metrics
from lasttoken.evaluation.calibration import fit_temperature, fit_temperature_multilabel
from lasttoken.evaluation.decision import Decision, rule_in_words, thresholds_in_words
from lasttoken.evaluation.decision_flags import parse_decision, parse_label_thresholds
from lasttoken.evaluation.intervals import Difference, paired_difference
from lasttoken.evaluation.linear_models import LinearModel, fit_multinomial, fit_one_vs_rest
from lasttoken.evaluation.metrics import Metrics, compute_metrics
from lasttoken.evaluation.multilabel import MultiLabelMetrics, compute_multilabel_metrics, micro_f1_difference
from lasttoken.evaluation.thresholds import best_threshold, best_thresholds

if TYPE_CHECKING:
    from torch import Tensor


Truth = NDArray[np.int64] | NDArray[np.bool_]  # [N], or [N, K]
SplitMetrics = Metrics | MultiLabelMetrics
LogProbs = NDArray[np.floating]  # [N, K]
Bools = NDArray[np.bool_]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Task(ABC):
    """What a classifier predicts for a text, over K labels."""

    labels: tuple[str, ...]

    kind: ClassVar[Kind]
    multi_label: ClassVar[bool]  # as settings, file formats and HTTP bodies state it
    headline: ClassVar[str]  # the metric by which classifiers are compared
    probability_function: ClassVar[str]  # of the logits
    problem_type: ClassVar[str]  # the name of the task in transformers
    labels_per_text: ClassVar[str]  # in words

    @property
    @abstractmethod
    def separator(self) -> str | None:
        """The string between the labels of a text in a file; None: a text has one label."""

    # ------------------------------------------------------------------ training

    @abstractmethod
    def loss(
        self,
        logits: Tensor,
        truth: Tensor,
        label_weights: Tensor | None = None,
        row_weights: Tensor | None = None,
    ) -> Tensor:
        """The mean loss of a batch.

        Args:
            logits: [B, K].
            truth: label ids [B], or bool [B, K].
            label_weights: [K], see `training/balance.py`; None: all labels weigh the same.
            row_weights: [B]; None: all rows weigh the same.
        """

    @abstractmethod
    def fit_temperature(self, logits: NDArray[np.float32], truth: Truth) -> float:
        """The temperature for which logits [N, K], divided by it, have the smallest loss; see `calibration.py`."""

    @abstractmethod
    def fit_decision(self, decision: Decision, log_probs: LogProbs, truth: Truth, auto: bool) -> Decision:
        """A decision rule with the thresholds that are fitted on validation rows.

        `auto`: the user asked for a fitted threshold (`--threshold auto`).
        """

    @abstractmethod
    def label_frequencies(self, truth: Truth) -> NDArray[np.float64]:
        """The fraction of rows with each label, [K]."""

    @abstractmethod
    def fit_linear(
        self, features: Any, truth: Truth, seed: int, validation: Callable[[], tuple[Any, Truth]] | None
    ) -> LinearModel:
        """A linear model of a baseline on features [N, F]; see `linear_models.py`.

        `validation` gives the features and the truth of rows on which the kind of model is chosen.
        """

    # ------------------------------------------------------------------ from logits to a prediction

    def log_probs(self, logits: NDArray[np.float32], temperature: float = 1.0) -> LogProbs:
        """Log-probabilities [N, K] of logits [N, K] divided by the temperature.

        Raises:
            DivergedError: logits that are not finite. NaN is never a prediction.
        """
        if not np.isfinite(logits).all():
            raise DivergedError(
                "the classifier computes NaN or infinity; its weights are damaged or too large for --precision, so use "
                "--precision float32, or train it again"
            )
        return self._log_probs(logits if temperature == 1.0 else logits / np.float32(temperature))

    @abstractmethod
    def _log_probs(self, logits: NDArray[np.float32]) -> LogProbs: ...

    @abstractmethod
    def decide(self, log_probs: LogProbs, decision: Decision) -> Truth:
        """The prediction of each row; rows on which the classifier abstains have one too, see `answered`."""

    @abstractmethod
    def answered(self, log_probs: LogProbs, decision: Decision) -> Bools:
        """Which rows [N] the classifier answers; on the others it abstains."""

    @abstractmethod
    def given_label_ids(self, log_probs: LogProbs, decision: Decision) -> list[list[int]]:
        """The label ids that each row is given, the most probable first; none where the classifier abstains."""

    @abstractmethod
    def log_odds(self, logits: Tensor, label_id: int) -> Tensor:
        """log p - log(1 - p) of one label, [B], from logits [B, K]."""

    # ------------------------------------------------------------------ decision rules

    @abstractmethod
    def parse_decision(self, threshold: str | None, cost: str | None) -> Decision:
        """The decision rule of `--threshold` and `--cost`.

        Raises:
            SettingsError: a form, a label or a value that is not valid; see `decision.py`.
        """

    def change_decision(self, decision: Decision, threshold: str | None, cost: str | None) -> Decision:
        """The rule of `--threshold` and `--cost` in place of the one that a classifier was saved with."""
        return self.parse_decision(threshold, cost)

    @abstractmethod
    def rule_in_words(self, decision: Decision) -> str:
        """The decision rule as part of a sentence."""

    @abstractmethod
    def has_own_rule(self, decision: Decision) -> bool:
        """Whether the rule is worth a sentence: it differs from what a reader expects."""

    # ------------------------------------------------------------------ metrics

    def metrics(
        self,
        truth: Truth,
        *,
        log_probs: NDArray[np.floating],
        probs: NDArray[np.float64] | None = None,
        predicted: Truth | None = None,
        intervals: bool = False,
    ) -> SplitMetrics:
        """The metrics of N predictions; see `metrics.py`, `multilabel.py` and `added_metrics.py`.

        Args:
            truth: label ids [N], or bool [N, K].
            log_probs: [N, K].
            probs: [N, K], where they are known without rounding; None: exp(log_probs).
            predicted: the predictions; None: those of the default rule.
            intervals: whether to compute all metrics and all intervals.
        """
        metrics = self._metrics(truth, log_probs, probs, predicted, intervals)
        if computed := computed_metrics(self.kind, intervals):
            answers = self.decide(log_probs, Decision()) if predicted is None else predicted
            metrics.added.update(added_metrics(computed, (truth, log_probs, answers), intervals))
        return metrics

    @abstractmethod
    def _metrics(
        self,
        truth: Truth,
        log_probs: NDArray[np.floating],
        probs: NDArray[np.float64] | None,
        predicted: Truth | None,
        intervals: bool,
    ) -> SplitMetrics: ...

    @abstractmethod
    def difference(self, truth: Truth, a: Truth, b: Truth, groups: NDArray[np.intp] | None = None) -> Difference:
        """By how much predictions `a` are better than `b` on the same rows, in the headline metric.

        `groups` [N]: copies of a text have the same number and count as one observation.
        """

    @abstractmethod
    def evidence(self, difference: Difference, n_rows: int) -> str:
        """What a difference to a baseline was computed from, as a sentence."""

    @property
    @abstractmethod
    def points(self) -> str:
        """The unit of a difference in the headline metric, times 100."""

    @abstractmethod
    def majority_in_words(self, metrics: SplitMetrics) -> str:
        """What the majority baseline does, and its headline metric."""

    @abstractmethod
    def reliability_rows(self, log_probs: LogProbs, truth: Truth) -> tuple[NDArray[np.floating], Ids]:
        """Log-probabilities [M, K'] and label ids [M] of the decisions that a reliability diagram bins."""

    @abstractmethod
    def slice_keys(self, truth: Truth) -> dict[str, Sequence[str]]:
        """The slices that the truth gives: name → the value of each row."""

    # ------------------------------------------------------------------ rows

    @abstractmethod
    def has_label(self, answers: Truth, label_id: int) -> Bools:
        """Which rows [N] of a truth or of predictions have one label."""

    @abstractmethod
    def has_labels(self, answers: Truth) -> Bools:
        """Which labels each row of a truth or of predictions has, [N, K]."""

    @abstractmethod
    def join(self, label_ids: Sequence[int]) -> str:
        """The labels of one text as a cell of a file."""

    @abstractmethod
    def joined(self, answers: Truth) -> list[str]:
        """The labels of each row of a truth or of predictions as cells of a file."""

    @abstractmethod
    def n_given(self, predicted: Truth) -> int:
        """The number of different labels that any row is given."""

    @abstractmethod
    def explained_label_ids(self, log_probs: LogProbs, predicted: Truth) -> Ids:
        """The label [N] whose probability stands for a row: the prediction, or the most probable label."""

    @abstractmethod
    def is_confident_error(self, log_probs: LogProbs, truth: Truth, correct: Bools) -> Bools:
        """Which rows [N] are errors in the label of `explained_label_ids`."""

    @abstractmethod
    def margins(self, log_probs: LogProbs) -> NDArray[np.float32]:
        """How far each row [N] is from another prediction, in log-probability."""


@dataclass(frozen=True)
class SingleLabel(Task):
    """Each text has exactly one of the K labels.

    >>> task = SingleLabel(("ham", "spam"))
    >>> task.joined(task.decide(np.log([[0.2, 0.8], [0.7, 0.3]]), Decision()))
    ['spam', 'ham']
    """

    kind: ClassVar[Kind] = "single-label"
    multi_label: ClassVar[bool] = False
    headline: ClassVar[str] = HEADLINES["single-label"]
    probability_function: ClassVar[str] = "softmax"
    problem_type: ClassVar[str] = "single_label_classification"
    labels_per_text: ClassVar[str] = "one"

    @property
    def separator(self) -> None:
        """A text has one label."""
        return

    def loss(
        self, logits: Tensor, truth: Tensor, label_weights: Tensor | None = None, row_weights: Tensor | None = None
    ) -> Tensor:
        """Cross-entropy; with row weights Σ weight · loss / B."""
        from torch.nn.functional import cross_entropy

        if row_weights is None:
            return cross_entropy(logits, truth, label_weights)
        return (cross_entropy(logits, truth, label_weights, reduction="none") * row_weights).sum() / len(truth)

    def fit_temperature(self, logits: NDArray[np.float32], truth: Truth) -> float:
        """By the cross-entropy."""
        return fit_temperature(logits, truth)

    def fit_decision(self, decision: Decision, log_probs: LogProbs, truth: Truth, auto: bool) -> Decision:
        """With `auto` the threshold for the rarer of two labels that maximizes macro-F1."""
        return best_threshold(log_probs, np.asarray(truth, dtype=np.int64)) if auto else decision

    def label_frequencies(self, truth: Truth) -> NDArray[np.float64]:
        """They add up to 1."""
        return np.bincount(truth, minlength=len(self.labels)) / len(truth)

    def fit_linear(
        self, features: Any, truth: Truth, seed: int, validation: Callable[[], tuple[Any, Truth]] | None
    ) -> LinearModel:
        """One multinomial model."""
        ids = np.asarray(truth, dtype=np.int64)
        return fit_multinomial(features, ids, len(self.labels), seed, validation)  # type: ignore[arg-type]

    def _log_probs(self, logits: NDArray[np.float32]) -> LogProbs:
        return log_softmax(logits)

    def decide(self, log_probs: LogProbs, decision: Decision) -> Ids:
        """Label ids [N]."""
        return decision.decide(log_probs)

    def answered(self, log_probs: LogProbs, decision: Decision) -> Bools:
        """Rows whose largest probability reaches `abstain_below`."""
        return decision.answered(log_probs)

    def given_label_ids(self, log_probs: LogProbs, decision: Decision) -> list[list[int]]:
        """One label id a row, or none."""
        if not len(log_probs):
            return []
        pairs = zip(decision.decide(log_probs).tolist(), decision.answered(log_probs).tolist(), strict=True)
        return [[label_id] if answered else [] for label_id, answered in pairs]

    def log_odds(self, logits: Tensor, label_id: int) -> Tensor:
        """logit - logsumexp of the other logits."""
        import torch

        others = torch.cat((logits[:, :label_id], logits[:, label_id + 1 :]), 1)
        return logits[:, label_id] - others.logsumexp(1)

    def parse_decision(self, threshold: str | None, cost: str | None) -> Decision:
        """See `decision.parse_decision`."""
        return parse_decision(threshold, cost, self.labels)

    def rule_in_words(self, decision: Decision) -> str:
        """See `decision.rule_in_words`."""
        return rule_in_words(decision, self.labels)

    def has_own_rule(self, decision: Decision) -> bool:
        """Unless the most probable label is always given."""
        return not decision.is_default

    def _metrics(
        self,
        truth: Truth,
        log_probs: NDArray[np.floating],
        probs: NDArray[np.float64] | None,
        predicted: Truth | None,
        intervals: bool,
    ) -> Metrics:
        return compute_metrics(truth, self.labels, log_probs=log_probs, predicted_ids=predicted, intervals=intervals)

    def difference(self, truth: Truth, a: Truth, b: Truth, groups: NDArray[np.intp] | None = None) -> Difference:
        """Of the accuracies; see `paired_difference`."""
        return paired_difference(a == truth, b == truth, groups=groups)

    def evidence(self, difference: Difference, n_rows: int) -> str:
        """The rows on which exactly one of the two is right, and the exact test."""
        return (
            f"Of the {n_rows:,} rows, {difference.n_only_a:,} are right only with the GPT and "
            f"{difference.n_only_b:,} only with the baseline (95 % interval of the paired difference; exact McNemar "
            f"p = {difference.p_value:.2g})."
        )

    @property
    def points(self) -> str:
        """Percentage points of accuracy."""
        return "points"

    def majority_in_words(self, metrics: SplitMetrics) -> str:
        """Its accuracy."""
        return f"always giving the most frequent label ({metrics.accuracy:.1%})"

    def reliability_rows(self, log_probs: LogProbs, truth: Truth) -> tuple[NDArray[np.floating], Ids]:
        """The rows themselves: one decision each."""
        return log_probs, np.asarray(truth, dtype=np.int64)

    def slice_keys(self, truth: Truth) -> dict[str, Sequence[str]]:
        """By label."""
        return {"label": self.joined(truth)}

    def has_label(self, answers: Truth, label_id: int) -> Bools:
        """Where the label id is this one."""
        return np.asarray(answers == label_id, dtype=np.bool_)

    def has_labels(self, answers: Truth) -> Bools:
        """One-hot."""
        return np.asarray(answers[:, None] == np.arange(len(self.labels)), dtype=np.bool_)

    def join(self, label_ids: Sequence[int]) -> str:
        """The label, or nothing."""
        return "".join(self.labels[label_id] for label_id in label_ids)

    def joined(self, answers: Truth) -> list[str]:
        """The label of each row."""
        return [self.labels[label_id] for label_id in answers.tolist()]

    def n_given(self, predicted: Truth) -> int:
        """Different label ids."""
        return len(np.unique(predicted))

    def explained_label_ids(self, log_probs: LogProbs, predicted: Truth) -> Ids:
        """The prediction."""
        return np.asarray(predicted, dtype=np.int64)

    def is_confident_error(self, log_probs: LogProbs, truth: Truth, correct: Bools) -> Bools:
        """Every wrong row."""
        return ~correct

    def margins(self, log_probs: LogProbs) -> NDArray[np.float32]:
        """By how much the most probable label leads the second."""
        ordered = np.sort(log_probs, axis=1)
        return np.asarray(ordered[:, -1] - ordered[:, -2])


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

    @property
    def separator(self) -> str:
        """The string between the labels of a text in a file."""
        return self.between

    def loss(
        self, logits: Tensor, truth: Tensor, label_weights: Tensor | None = None, row_weights: Tensor | None = None
    ) -> Tensor:
        """Mean binary cross-entropy of the B·K decisions; weights are for single-label tasks."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        assert label_weights is None  # Settings.check rejects --balance with --multi-label
        assert row_weights is None
        return binary_cross_entropy_with_logits(logits, truth.to(logits.dtype))

    def fit_temperature(self, logits: NDArray[np.float32], truth: Truth) -> float:
        """By the binary cross-entropy."""
        return fit_temperature_multilabel(logits, truth)

    def fit_decision(self, decision: Decision, log_probs: LogProbs, truth: Truth, auto: bool) -> Decision:
        """A threshold for each label that the rule does not name; see `best_thresholds`."""
        fitted = best_thresholds(truth, np.exp(log_probs.astype(np.float64))).tolist()
        return decision.over(Decision(thresholds=tuple(enumerate(fitted))))

    def label_frequencies(self, truth: Truth) -> NDArray[np.float64]:
        """Of each label by itself."""
        return np.asarray(truth.mean(axis=0), dtype=np.float64)

    def fit_linear(
        self, features: Any, truth: Truth, seed: int, validation: Callable[[], tuple[Any, Truth]] | None
    ) -> LinearModel:
        """One model for each label against the rest."""
        return fit_one_vs_rest(features, np.asarray(truth, dtype=bool), seed)

    def _log_probs(self, logits: NDArray[np.float32]) -> LogProbs:
        return np.asarray(-np.logaddexp(np.float32(0), -logits), dtype=np.float32)

    def decide(self, log_probs: LogProbs, decision: Decision) -> Bools:
        """Bool [N, K]."""
        return decision.decide_each(log_probs)

    def answered(self, log_probs: LogProbs, decision: Decision) -> Bools:
        """All rows: no label is an answer too."""
        return np.ones(len(log_probs), dtype=np.bool_)

    def given_label_ids(self, log_probs: LogProbs, decision: Decision) -> list[list[int]]:
        """The labels that reach their thresholds."""
        return [
            sorted(np.flatnonzero(has).tolist(), key=lambda label_id, row=row: -row[label_id])  # type: ignore[misc]
            for has, row in zip(decision.decide_each(log_probs), log_probs, strict=True)
        ]

    def log_odds(self, logits: Tensor, label_id: int) -> Tensor:
        """The logit itself."""
        return logits[:, label_id]

    def parse_decision(self, threshold: str | None, cost: str | None) -> Decision:
        """See `decision.parse_label_thresholds`."""
        return parse_label_thresholds(threshold, cost, self.labels)

    def change_decision(self, decision: Decision, threshold: str | None, cost: str | None) -> Decision:
        """Labels that are not named keep their thresholds."""
        return self.parse_decision(threshold, cost).over(decision)

    def rule_in_words(self, decision: Decision) -> str:
        """See `decision.thresholds_in_words`."""
        return thresholds_in_words(decision, self.labels)

    def has_own_rule(self, decision: Decision) -> bool:
        """Always: the thresholds are fitted."""
        return True

    def _metrics(
        self,
        truth: Truth,
        log_probs: NDArray[np.floating],
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
        """Of micro-F1; see `micro_f1_difference`."""
        return micro_f1_difference(truth, a, b, groups=groups)

    def evidence(self, difference: Difference, n_rows: int) -> str:
        """The rows, and how the interval was computed."""
        return f"By micro-F1 on {n_rows:,} rows (95 % interval of the paired difference, by bootstrap)."

    @property
    def points(self) -> str:
        """Hundredths of micro-F1."""
        return "points of micro-F1"

    def majority_in_words(self, metrics: SplitMetrics) -> str:
        """Its micro-F1."""
        assert isinstance(metrics, MultiLabelMetrics)
        return f"giving labels by their frequency alone (micro-F1 {metrics.micro_f1:.3f})"

    def reliability_rows(self, log_probs: LogProbs, truth: Truth) -> tuple[NDArray[np.floating], Ids]:
        """All N·K yes-or-no decisions as rows [N·K, 2]."""
        yes = log_probs.ravel().astype(np.float64)
        no = np.log(np.maximum(-np.expm1(yes), np.finfo(np.float64).tiny))
        return np.stack((no, yes), axis=1), truth.ravel().astype(np.int64)

    def slice_keys(self, truth: Truth) -> dict[str, Sequence[str]]:
        """By the number of labels."""
        return {"labels": [f"{n} {'label' if n == 1 else 'labels'}" for n in truth.sum(axis=1).tolist()]}

    def has_label(self, answers: Truth, label_id: int) -> Bools:
        """A column."""
        return np.asarray(answers[:, label_id], dtype=np.bool_)

    def has_labels(self, answers: Truth) -> Bools:
        """The matrix itself."""
        return np.asarray(answers, dtype=np.bool_)

    def join(self, label_ids: Sequence[int]) -> str:
        """The labels with the separator between them."""
        return self.between.join(self.labels[label_id] for label_id in label_ids)

    def joined(self, answers: Truth) -> list[str]:
        """The labels of each row, in their own order."""
        return [self.join(np.flatnonzero(row).tolist()) for row in answers]

    def n_given(self, predicted: Truth) -> int:
        """Columns with a row."""
        return int(predicted.any(axis=0).sum())

    def explained_label_ids(self, log_probs: LogProbs, predicted: Truth) -> Ids:
        """The most probable label."""
        return np.asarray(log_probs.argmax(axis=1), dtype=np.int64)

    def is_confident_error(self, log_probs: LogProbs, truth: Truth, correct: Bools) -> Bools:
        """Wrong rows that do not have their most probable label."""
        return np.asarray(~correct & ~truth[np.arange(len(truth)), log_probs.argmax(axis=1)].astype(bool))

    def margins(self, log_probs: LogProbs) -> NDArray[np.float32]:
        """How far the label nearest to even odds is from them."""
        return np.asarray(np.abs(log_probs - np.log(0.5)).min(axis=1))


def task_of(labels: Sequence[str], separator: str | None) -> Task:
    """The task of K labels; `separator` stands between the labels of a text in a file, None: a text has one label."""
    return SingleLabel(tuple(labels)) if separator is None else MultiLabel(tuple(labels), separator)


def log_softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """[N, K] / temperature -> [N, K], shifted by the row's maximum so that nothing overflows."""
    logits = logits if temperature == 1.0 else logits / np.float32(temperature)
    shifted = logits - logits.max(1, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)), dtype=np.float32)
