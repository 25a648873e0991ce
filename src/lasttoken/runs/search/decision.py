"""Whether the settings that a search found replace the default ones, decided on train and validation alone.

    validation, which no trial has seen     one comparison of two trainings      level 5 %
    rows that the trials were scored on     the best of m trials                 level 5 % / m

The best of many trials on the same rows looks better than it is. So the mean loss has to fall by more than the standard
error of the rows' paired differences explains at this level: without any better settings, the default ones are
replaced in at most one search of twenty, however many trials there were (Bonferroni's inequality, Student's t).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.training.held_out import mean_and_error

LEVEL = 0.05  # one-sided


@dataclass(frozen=True)
class Decision:
    """The comparison of the settings found with the default ones on held-out rows."""

    held_out: str  # the rows: "validation", or "folds of train and validation"
    n_rows: int
    n_compared: int  # settings that could have been the best on these rows
    loss_fall: float  # mean loss of the default settings minus that of those found
    standard_error: float
    needed: float  # standard errors by which the loss has to fall
    metric_agrees: bool  # whether another --metric than the loss is better too

    @property
    def takes_found(self) -> bool:
        """Whether the settings found are kept."""
        return self.metric_agrees and self.loss_fall > self.needed * self.standard_error

    def to_json(self) -> dict[str, Any]:
        """JSON types only."""
        return {**asdict(self), "takes_found": self.takes_found}

    def in_words(self) -> str:
        """The numbers of the decision, as a sentence."""
        change = f"a loss {abs(self.loss_fall):.3f} {'lower' if self.loss_fall > 0 else 'higher'} than the default's"
        needed = self.needed * self.standard_error
        return (
            f"on {self.n_rows:,} held-out rows ({self.held_out}) the best settings of the search have {change}; "
            f"{needed:.3f} lower is needed"
        )


def decide(
    default: NDArray[np.float64],
    found: NDArray[np.float64],
    *,
    held_out: str,
    n_compared: int = 1,
    metric_agrees: bool = True,
) -> Decision:
    """Compare the losses of the same rows [M] under the default settings and under those found.

    >>> rng = np.random.default_rng(1)
    >>> noise = rng.normal(size=200)
    >>> decide(noise, noise + rng.normal(size=200), held_out="validation", n_compared=40).takes_found
    False
    >>> decide(noise, noise - 0.5, held_out="validation", n_compared=40).takes_found
    True
    """
    from scipy.stats import t

    fall, error = mean_and_error(default - found)
    needed = float(t.isf(LEVEL / max(n_compared, 1), max(len(default) - 1, 1)))
    return Decision(held_out, len(default), n_compared, fall, error, needed, metric_agrees)
