"""A threshold for a target: "spam at 99 % precision", chosen on validation and measured on every split.

    --threshold spam@precision=0.99    the threshold with the highest recall of those that reach the precision
    --threshold spam@recall=0.9        the threshold with the highest precision of those that reach the recall

The threshold is chosen on validation, so the value on validation is optimistic. Test is not used for the choice: trust
its value and interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lasttoken.evaluation.decision_flags import Target
from lasttoken.evaluation.intervals import Interval

TOLERANCE = 1e-12


@dataclass(frozen=True)
class Reached:
    """The value of the target's metric on a split, its interval, and the number of rows in its denominator."""

    value: float
    ci95: Interval | None
    n: int

    def in_words(self, metric: str) -> str:
        """The value with its interval.

        >>> Reached(0.95, (0.9, 0.98), 120).in_words("precision")
        '95.0% (90.0 to 98.0, of 120 rows predicted as the label)'
        """
        rows = "predicted as the label" if metric == "precision" else "that have the label"
        bounds = f"{self.ci95[0]:.1%} to {self.ci95[1]:.1%}".replace("%", "") + ", " if self.ci95 else ""
        return f"{self.value:.1%} ({bounds}of {self.n:,} rows {rows})"


@dataclass(frozen=True)
class TargetResult:
    """A target, the threshold that was chosen for it, and the values on each split.

    The threshold is None where validation has no row of the label.
    """

    label: str
    target: Target
    threshold: float | None
    splits: dict[str, Reached]  # validation, and test where there is one

    @property
    def is_reached(self) -> bool:
        """Whether validation reaches the target."""
        reached = self.splits.get("validation")
        return self.threshold is not None and reached is not None and reached.value >= self.target.least - TOLERANCE

    def sentence(self) -> str:
        """The result for the user."""
        metric = self.target.metric
        request = f"{self.label} at {metric} {self.target.least:g}"
        if self.threshold is None:
            return f"{request}: no threshold could be chosen, because validation has no row of this label"
        values = {name: reached.in_words(metric) for name, reached in self.splits.items()}
        how = (
            "reaches"
            if self.is_reached
            else "is the nearest, because no threshold reaches the target on validation: it has"
        )
        text = f"{request}: the threshold {self.threshold:.4g} {how} {values['validation']} on validation"
        if "test" in values:
            return f"{text}, on which it was chosen, and {values['test']} on test, which is the value to trust"
        return f"{text}, on which it was chosen, so the value is optimistic; give a test split for a value to trust"

    def to_json(self) -> dict[str, Any]:
        """JSON types only."""
        splits = {
            name: {
                "value": reached.value,
                "ci95": None if reached.ci95 is None else list(reached.ci95),
                "n": reached.n,
            }
            for name, reached in self.splits.items()
        }
        target = {"label": self.label, "metric": self.target.metric, "target": self.target.least}
        return {**target, "threshold": self.threshold, "reached": self.is_reached, "splits": splits}


def threshold_for(target: Target, has: ArrayLike, probs: ArrayLike) -> float | None:
    """The threshold that reaches a target on these rows, or comes nearest; None when no row has the label.

    Args:
        target: the metric and its minimum.
        has: [N] bool, which rows have the label.
        probs: [N], the label's probabilities.
    """
    p = np.asarray(probs, dtype=np.float64)
    order = np.argsort(-p, kind="stable")
    hits = np.cumsum(np.asarray(has, dtype=bool)[order])  # of the n most probable rows
    if not len(hits) or not hits[-1]:
        return None
    falling = np.append(p[order], 0.0)
    cuts = (falling[:-1] + falling[1:]) / 2
    usable = (falling[:-1] > falling[1:]) & (cuts > 0) & (cuts < 1) & (cuts < falling[:-1]) & (cuts > falling[1:])
    if not usable.any():
        return None
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / hits[-1]
    wanted, other = (precision, recall) if target.metric == "precision" else (recall, precision)
    reached = usable & (wanted >= target.least - TOLERANCE)
    nearest = (np.where(usable, wanted, -1.0), other)
    first, second = (np.where(reached, other, -1.0), wanted) if reached.any() else nearest
    best = np.lexsort((-np.arange(len(cuts)), second, first))[-1]
    return float(cuts[best])
