"""The task of one label for each text: cross-entropy, softmax, the most probable label, accuracy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.metric_registry import HEADLINES, Kind
from lasttoken.core.spelling import label_key
from lasttoken.evaluation.calibration import fit_temperature
from lasttoken.evaluation.decision import MOST_PROBABLE, Decision, rule_in_words
from lasttoken.evaluation.decision_flags import parse_decision
from lasttoken.evaluation.intervals import Difference, paired_difference
from lasttoken.evaluation.linear_models import LinearModel, fit_multinomial
from lasttoken.evaluation.metrics import LogProbs, Metrics, compute_metrics, row_losses
from lasttoken.evaluation.tasks.task import Bools, Ids, SplitMetrics, Task, Truth
from lasttoken.evaluation.thresholds import best_threshold

if TYPE_CHECKING:
    from torch import Tensor


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
    accuracy_metric: ClassVar[str] = "accuracy"
    has_confusion: ClassVar[bool] = True
    always_uneven: ClassVar[bool] = False

    @property
    def separator(self) -> None:
        """None: a text has one label, so files need no separator."""
        return

    def loss(
        self,
        logits: Tensor,
        truth: Tensor,
        label_weights: Tensor | None = None,
        row_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """The mean cross-entropy; with row weights it is Σ weight · loss / B."""
        from torch.nn.functional import cross_entropy

        if row_weights is None:
            return cross_entropy(logits, truth, label_weights, label_smoothing=label_smoothing)
        losses = cross_entropy(logits, truth, label_weights, reduction="none", label_smoothing=label_smoothing)
        return (losses * row_weights).sum() / len(truth)

    def fit_temperature(self, logits: NDArray[np.float32], truth: Truth) -> float:
        """The temperature that minimizes the cross-entropy of logits [N, K] / temperature."""
        return fit_temperature(logits, truth)

    def fit_decision(self, decision: Decision, log_probs: LogProbs, truth: Truth, auto: bool) -> Decision:
        """With `auto`, choose the threshold for the rarer of two labels that maximizes macro-F1; else keep the rule."""
        return best_threshold(log_probs, np.asarray(truth, dtype=np.int64)) if auto else decision

    def label_frequencies(self, truth: Truth) -> NDArray[np.float64]:
        """The fraction of rows with each label, [K]; the fractions add up to 1."""
        return np.bincount(truth, minlength=len(self.labels)) / len(truth)

    def fit_linear(
        self, features: Any, truth: Truth, seed: int, validation: Callable[[], tuple[Any, Truth]] | None
    ) -> LinearModel:
        """Fit one multinomial model to features [N, F] and label ids [N]."""
        ids = np.asarray(truth, dtype=np.int64)
        return fit_multinomial(features, ids, len(self.labels), seed, validation)  # type: ignore[arg-type]

    def _log_probs(self, logits: NDArray[np.float32]) -> LogProbs:
        return log_softmax(logits)

    def row_losses(self, log_probs: LogProbs, truth: Truth) -> NDArray[np.float64]:
        """Minus the log-probability of the true label."""
        return row_losses(log_probs, np.asarray(truth, dtype=np.int64))

    def decide(self, log_probs: LogProbs, decision: Decision) -> Ids:
        """The label id of each row, [N]."""
        return decision.decide(log_probs)

    def answered(self, log_probs: LogProbs, decision: Decision) -> Bools:
        """Which rows [N] have a largest probability that reaches `abstain_below`."""
        return decision.answered(log_probs)

    def given_label_ids(self, log_probs: LogProbs, decision: Decision) -> list[list[int]]:
        """The predicted label id of each row as a list of one; an empty list where the classifier abstains."""
        if not len(log_probs):
            return []
        pairs = zip(decision.decide(log_probs).tolist(), decision.answered(log_probs).tolist(), strict=True)
        return [[label_id] if answered else [] for label_id, answered in pairs]

    def log_odds(self, logits: Tensor, label_id: int) -> Tensor:
        """The logit of the label minus the logsumexp of the other logits, [B]."""
        import torch

        others = torch.cat((logits[:, :label_id], logits[:, label_id + 1 :]), 1)
        return logits[:, label_id] - others.logsumexp(1)

    def parse_decision(self, threshold: str | None, cost: str | None) -> Decision:
        """The rule that `decision_flags.parse_decision` reads."""
        return parse_decision(threshold, cost, self.labels)

    def rule_in_words(self, decision: Decision) -> str:
        """The rule as `decision.rule_in_words` words it."""
        return rule_in_words(decision, self.labels)

    def lost_rule(self, decision: Decision) -> str | None:
        """Every rule is lost: transformers gives the most probable label."""
        if decision == MOST_PROBABLE:
            return None
        rule = self.rule_in_words(decision)
        return f"the decision rule is not kept ({rule}): transformers gives the most probable label"

    def rule_for_scores(self, decision: Decision) -> str:
        """Nothing: transformers gives the most probable label."""
        return ""

    def has_own_rule(self, decision: Decision) -> bool:
        """True unless the rule always predicts the most probable label."""
        return not decision.is_default

    def _metrics(
        self,
        truth: Truth,
        log_probs: LogProbs,
        probs: NDArray[np.float64] | None,
        predicted: Truth | None,
        intervals: bool,
    ) -> Metrics:
        return compute_metrics(truth, self.labels, log_probs=log_probs, predicted_ids=predicted, intervals=intervals)

    def difference(self, truth: Truth, a: Truth, b: Truth, groups: NDArray[np.intp] | None = None) -> Difference:
        """The difference of the two accuracies; see `paired_difference`."""
        return paired_difference(a == truth, b == truth, groups=groups)

    def row_values(self, truth: Truth, predicted: Truth) -> NDArray[np.float64]:
        """1 where the prediction is correct, else 0: their mean is the accuracy."""
        return np.asarray(predicted == truth, dtype=np.float64)

    def evidence(self, difference: Difference, n_rows: int) -> str:
        """The number of rows on which exactly one of the two is right, and the p-value of the exact test."""
        return (
            f"Of the {n_rows:,} rows, only the classifier gets {difference.n_only_a:,} right, and only the baseline "
            f"{difference.n_only_b:,} (95 % interval of the paired difference; exact McNemar "
            f"p = {difference.p_value:.2g})."
        )

    @property
    def points(self) -> str:
        """The unit is percentage points of accuracy."""
        return "points"

    def majority_in_words(self, metrics: SplitMetrics) -> str:
        """The majority baseline always predicts one label; its metric is the accuracy."""
        return f"always predicting the most frequent label ({metrics.accuracy:.1%})"

    def reliability_rows(self, log_probs: LogProbs, truth: Truth) -> tuple[NDArray[np.floating], Ids]:
        """The rows themselves, log-probabilities [N, K] and label ids [N]: each row is one decision."""
        return log_probs, np.asarray(truth, dtype=np.int64)

    def slice_keys(self, truth: Truth) -> dict[str, Sequence[str]]:
        """The rows are sliced by their label."""
        return {"label": self.joined(truth)}

    def truth_from_ids(self, label_ids: Sequence[Sequence[int]]) -> Ids:
        """The only label id of each row, [N]."""
        return np.array([label_id for (label_id,) in label_ids], dtype=np.int64)

    def read_as_ids(self, spellings: Collection[str]) -> dict[str, int]:
        """Label ids in place of labels are accepted, as chapter 6 writes them."""
        ids = {str(label_id): label_id for label_id in range(len(self.labels))}
        keys = {spelling: label_key(spelling) for spelling in spellings}
        return {spelling: ids[key] for spelling, key in keys.items()} if ids.keys() >= set(keys.values()) else {}

    def dominated_label(self, counts: Mapping[str, int], ratio: float) -> str | None:
        """A rare label is seldom the most probable one, so a threshold for it can help."""
        if len(counts) < 2:
            return None
        rare, common = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        return rare if counts[common] >= ratio * counts[rare] else None

    def labels_field(self, labels: Sequence[str]) -> dict[str, list[str]]:
        """Nothing: the field `label` holds the only label."""
        return {}

    def has_label(self, answers: Truth, label_id: int) -> Bools:
        """Which rows [N] have this label id."""
        return np.asarray(answers == label_id, dtype=np.bool_)

    def has_labels(self, answers: Truth) -> Bools:
        """The label ids [N] as one-hot rows, bool [N, K]."""
        return np.asarray(answers[:, None] == np.arange(len(self.labels)), dtype=np.bool_)

    def join(self, label_ids: Sequence[int]) -> str:
        """The label; an empty cell where the classifier abstains."""
        return "".join(self.labels[label_id] for label_id in label_ids)

    def joined(self, answers: Truth) -> list[str]:
        """The label of each row."""
        return [self.labels[label_id] for label_id in answers.tolist()]

    def n_given(self, predicted: Truth) -> int:
        """The number of different label ids among the predictions."""
        return len(np.unique(predicted))

    def explained_label_ids(self, log_probs: LogProbs, predicted: Truth) -> Ids:
        """The predicted label id of each row, [N]."""
        return np.asarray(predicted, dtype=np.int64)

    def is_confident_error(self, log_probs: LogProbs, truth: Truth, correct: Bools) -> Bools:
        """Which rows [N] are wrong: every error is one in the predicted label."""
        return ~correct

    def margins(self, log_probs: LogProbs) -> NDArray[np.float32]:
        """The log-probability of the most probable label minus that of the second, [N]."""
        ordered = np.sort(log_probs, axis=1)
        return np.asarray(ordered[:, -1] - ordered[:, -2])


def log_softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """[N, K] / temperature -> [N, K], shifted by the row's maximum so that nothing overflows."""
    logits = logits if temperature == 1.0 else logits / np.float32(temperature)
    shifted = logits - logits.max(1, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)), dtype=np.float32)
