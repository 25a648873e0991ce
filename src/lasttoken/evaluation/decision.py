"""The decision rule: from probabilities to a prediction, by thresholds, costs or abstention.

    probs [N, K] ──► expected cost of each label, or a threshold for some labels ──► label_id
                 └─► the largest probability is below `abstain_below` ──► no answer

    threshold  spam=0.9      spam only when its probability is at least 0.9; otherwise the best of the other labels
    cost       spam:ham=5    predicting ham for a spam costs 5, any other error 1; the lowest expected cost wins
    abstain    0.9           no answer when no label reaches 0.9

Thresholds and costs need calibrated probabilities; that is what the fitted temperature is for.
Source of the cost rule: Elkan, "The foundations of cost-sensitive learning", IJCAI 2001.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval
from numpy.typing import ArrayLike, NDArray

from lasttoken.core.documents import STRICT

MAX_NAMED = 8  # thresholds in a sentence

LabelId = Annotated[int, Ge(0)]
Probability = Annotated[float, Interval(ge=0, le=1)]


@dataclass(frozen=True)
class Decision:
    """How a classifier predicts. The default: the most probable label, always."""

    __pydantic_config__ = STRICT

    thresholds: tuple[tuple[LabelId, Probability], ...] = ()  # the lowest probability at which a label is predicted
    costs: tuple[tuple[LabelId, LabelId, Annotated[float, Ge(0)]], ...] = ()  # true, predicted, cost; other errors: 1
    abstain_below: Probability = 0.0

    def label_ids(self) -> set[int]:
        """The labels that a threshold or a cost names."""
        return {label_id for label_id, _ in self.thresholds} | {
            label_id for *pair, _ in self.costs for label_id in pair
        }

    @property
    def is_default(self) -> bool:
        """Whether the most probable label is always predicted."""
        return self == Decision()

    def decide(self, log_probs: ArrayLike) -> NDArray[np.int64]:
        """The label_id of each row of log-probabilities [N, K], ignoring `abstain_below`.

        >>> Decision(thresholds=((1, 0.9),)).decide(np.log([[0.2, 0.8], [0.05, 0.95]])).tolist()
        [0, 1]
        """
        probs = np.exp(np.asarray(log_probs, dtype=np.float64))
        if self.costs:
            return np.asarray((probs @ self.cost_matrix(probs.shape[1])).argmin(1), dtype=np.int64)
        ranked = probs.copy()  # a label that reaches its threshold ranks above all others, one that misses it below
        for label_id, threshold in self.thresholds:
            reaches = probs[:, label_id] >= threshold
            ranked[:, label_id] = np.where(reaches, 1 + probs[:, label_id], -1 + probs[:, label_id])
        return np.asarray(ranked.argmax(1), dtype=np.int64)

    def decide_each(self, log_probs: ArrayLike) -> NDArray[np.bool_]:
        """Which labels each row of a multi-label task gets, from log-probabilities [N, K]: bool [N, K].

        A label is given from its threshold on; without one, from 0.5 on.
        """
        probs = np.exp(np.asarray(log_probs, dtype=np.float64))
        thresholds = np.full(probs.shape[1], 0.5)
        for label_id, threshold in self.thresholds:
            thresholds[label_id] = threshold
        return np.asarray(probs >= thresholds)

    def answered(self, log_probs: ArrayLike) -> NDArray[np.bool_]:
        """Which rows [N] get an answer: their largest probability reaches `abstain_below`."""
        return np.asarray(np.exp(np.asarray(log_probs, dtype=np.float64)).max(1, initial=0.0) >= self.abstain_below)

    def over(self, other: Decision) -> Decision:
        """This rule, with the other's thresholds for the labels that it does not name."""
        return replace(self, thresholds=tuple(sorted({**dict(other.thresholds), **dict(self.thresholds)}.items())))

    def cost_matrix(self, n_labels: int) -> NDArray[np.float64]:
        """Costs [K true, K predicted]: 0 for a correct prediction, 1 for an error without a cost of its own."""
        matrix = 1.0 - np.eye(n_labels)
        for true, predicted, cost in self.costs:
            matrix[true, predicted] = cost
        return matrix


MOST_PROBABLE = Decision()


def rule_in_words(decision: Decision, labels: Sequence[str]) -> str:
    """The rule of a single-label task as part of a sentence.

    >>> rule_in_words(Decision(thresholds=((1, 0.9),)), ["ham", "spam"])
    'spam only when its probability is at least 0.9'
    """
    parts = [
        f"{labels[label_id]} only when its probability is at least {threshold:g}"
        for label_id, threshold in decision.thresholds
    ]
    if decision.costs:
        costs = ", ".join(
            f"{labels[true]} predicted as {labels[predicted]} costs {cost:g}"
            for true, predicted, cost in decision.costs
        )
        parts.append(f"the label with the lowest expected cost ({costs}, any other error 1)")
    if decision.abstain_below:
        parts.append(f"no answer when no label reaches {decision.abstain_below:g}")
    return "; ".join(parts) or "the most probable label"


def thresholds_in_words(decision: Decision, labels: Sequence[str]) -> str:
    """The rule of a multi-label task as part of a sentence.

    >>> thresholds_in_words(Decision(thresholds=((0, 0.25),)), ["joy", "love"])
    'every label whose probability reaches its threshold: joy 0.25'
    """
    if not decision.thresholds:
        return "every label above 0.5"
    named = ", ".join(f"{labels[label_id]} {threshold:.2f}" for label_id, threshold in decision.thresholds[:MAX_NAMED])
    n_left = len(decision.thresholds) - MAX_NAMED
    others = f" and {n_left} more" if n_left > 0 else ""
    return f"every label whose probability reaches its threshold: {named}{others}"
