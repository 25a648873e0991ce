"""The contract of a task: all that differs between one label for each text and any number of labels.

The rows of a data set have a truth; predictions have the shape of the truth. `SingleLabel` and `MultiLabel` implement
the contract, each in its own file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.errors import DivergedError
from lasttoken.core.metric_registry import Kind
from lasttoken.evaluation.added_metrics import added_metrics, computed_metrics
from lasttoken.evaluation.decision import Decision
from lasttoken.evaluation.intervals import Difference
from lasttoken.evaluation.linear_models import LinearModel
from lasttoken.evaluation.metrics import LogProbs, Metrics
from lasttoken.evaluation.multilabel import MultiLabelMetrics

if TYPE_CHECKING:
    from torch import Tensor


Truth = NDArray[np.int64] | NDArray[np.bool_]  # [N], or [N, K]
SplitMetrics = Metrics | MultiLabelMetrics
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
    accuracy_metric: ClassVar[str]  # the metric that says which fraction of the rows is predicted correctly as a whole
    has_confusion: ClassVar[bool]  # whether a wrong prediction confuses one label with one other
    always_uneven: ClassVar[bool]  # whether reports show the metrics for uneven labels whatever the label counts are

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
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """The mean loss of a batch.

        Args:
            logits: [B, K].
            truth: label ids [B], or bool [B, K].
            label_weights: [K], see `training/balance.py`; None: all labels weigh the same.
            row_weights: [B]; None: all rows weigh the same.
            label_smoothing: the share ε of each row's target that is spread evenly: over the K labels, or over
                "has it" and "has it not" of each label.
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
    def row_losses(self, log_probs: LogProbs, truth: Truth) -> NDArray[np.float64]:
        """The loss of each row, [N], whose mean is the metric `loss`."""

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
            SettingsError: a form, a label or a value that is not valid; see `decision_flags.py`.
        """

    def change_decision(self, decision: Decision, threshold: str | None, cost: str | None) -> Decision:
        """The rule of `--threshold` and `--cost` in place of the one that a classifier was saved with."""
        return self.parse_decision(threshold, cost)

    @abstractmethod
    def rule_in_words(self, decision: Decision) -> str:
        """The decision rule as part of a sentence."""

    @abstractmethod
    def lost_rule(self, decision: Decision) -> str | None:
        """What transformers loses of a decision rule, as a clause; None: it decides in the same way."""

    @abstractmethod
    def rule_for_scores(self, decision: Decision) -> str:
        """How to turn the scores of transformers into a prediction, as a sentence; "" where it does so itself."""

    @abstractmethod
    def has_own_rule(self, decision: Decision) -> bool:
        """Whether the rule is worth a sentence: it differs from what a reader expects."""

    # ------------------------------------------------------------------ metrics

    def metrics(
        self,
        truth: Truth,
        *,
        log_probs: LogProbs,
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
        log_probs: LogProbs,
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
    def row_values(self, truth: Truth, predicted: Truth) -> NDArray[np.float64]:
        """A value for each row, [N], whose mean is the headline metric; rows vary in it as they do in the metric."""

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
    def truth_from_ids(self, label_ids: Sequence[Sequence[int]]) -> Truth:
        """The truth of N rows from the label ids of each row."""

    @abstractmethod
    def read_as_ids(self, spellings: Collection[str]) -> dict[str, int]:
        """The label id that each spelling is, if all of them are label ids ("0", "1"); empty otherwise."""

    @abstractmethod
    def dominated_label(self, counts: Mapping[str, int], ratio: float) -> str | None:
        """The rarest label if a threshold for it can help: the most frequent has at least `ratio` times its rows."""

    @abstractmethod
    def labels_field(self, labels: Sequence[str]) -> dict[str, list[str]]:
        """The field of a JSON answer that lists the predicted labels; empty where the field `label` says it all."""

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
