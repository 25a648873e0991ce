"""Is the GPT worth it? The difference to the best baseline on the same rows, with its interval, in a plain sentence.

The best baseline is the one with the highest accuracy on the very rows it is compared on: chosen with hindsight, so
the comparison leans towards the cheap model, never towards ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.evaluation.intervals import Difference, paired_difference

IN_WORDS = {
    "majority": "always giving the commonest label",
    "length-only": "the length of the text alone",
    "tfidf-logreg": "a bag of words",
    "char-ngrams": "character n-grams",
    "ask": "the bare backbone, asked",
}


@dataclass(frozen=True)
class Verdict:
    """What a reader may conclude. `sentences`: the verdict first, then what stands behind it."""

    baseline: str
    difference: float  # of accuracies, ours less the baseline's
    difference_ci95: tuple[float, float]
    p_value: float  # exact McNemar test
    times_faster: float | None  # how many of our answers the baseline gives in the time of one of ours
    sentences: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As metrics.json and the report hold it."""
        return {**vars(self), "difference_ci95": list(self.difference_ci95), "sentences": list(self.sentences)}


def judge(
    label_ids: NDArray[np.int64],
    ours: NDArray[np.int64],
    baselines: Mapping[str, NDArray[np.int64]],
    *,
    seconds_per_row: Mapping[str, float] | None = None,
    groups: NDArray[np.intp] | None = None,
) -> Verdict | None:
    """Compare predictions [N] with those of the baselines on the same rows; None when there is no baseline.

    Args:
        label_ids: [N], the truth.
        ours: [N], our label_ids.
        baselines: name → [N], theirs.
        seconds_per_row: of "ours" and of each baseline, where it was measured.
        groups: [N], rows that are copies of each other have the same number; they count together.
    """
    if not baselines:
        return None
    correct = {name: predicted == label_ids for name, predicted in baselines.items()}
    best = max(correct, key=lambda name: float(correct[name].mean()))
    found = paired_difference(ours == label_ids, correct[best], groups=groups)
    seconds = seconds_per_row or {}
    faster = None
    if seconds.get("ours") and seconds.get(best):
        faster = seconds["ours"] / seconds[best]
    verdict = Verdict(best, found.value, found.ci95, found.p_value, faster, ())
    return replace(verdict, sentences=(_sentence(verdict), _behind(found, len(label_ids))))


def _sentence(verdict: Verdict) -> str:
    low, high = verdict.difference_ci95
    rival = f"{IN_WORDS.get(verdict.baseline, verdict.baseline)} ({verdict.baseline})"
    speed = ""
    if verdict.times_faster and verdict.times_faster >= 2:
        speed = f" and answers about {_round(verdict.times_faster)} times faster"
    if low > 0:
        return f"The GPT is better than the best baseline, {rival}, by {_points(verdict.difference, low, high)}."
    if high < 0:
        return (
            f"The GPT is worse than {rival} by {_points(-verdict.difference, -high, -low)}: use the baseline, which is "
            f"cheaper{speed}."
        )
    interval = f"{signed_points(verdict.difference)} points ({signed_points(low)} to {signed_points(high)})"
    return f"No evidence that the GPT is better: {rival} does as well{speed}. The difference is {interval}."


def _behind(found: Difference, n: int) -> str:
    return (
        f"Of the {n:,} rows, {found.n_only_a:,} are right only with the GPT and {found.n_only_b:,} only with the "
        f"baseline (95 % interval of the paired difference; exact McNemar p = {found.p_value:.2g}). The best baseline "
        "was chosen on these same rows, which favours it."
    )


def _points(value: float, low: float, high: float) -> str:
    """A difference of accuracies in points.

    >>> _points(0.019, 0.003, 0.036)
    '1.9 points (0.3 to 3.6)'
    """
    return f"{value * 100:.1f} points ({low * 100:.1f} to {high * 100:.1f})"


def signed_points(value: float) -> str:
    """A difference of accuracies in points, with its sign.

    >>> signed_points(-0.0172), signed_points(0.004)
    ('−1.7', '+0.4')
    """
    return f"{value * 100:+.1f}".replace("-", "−")


def _round(value: float) -> str:
    """Two significant digits: more would claim more than a measurement of seconds knows.

    >>> _round(3.14), _round(418.2)
    ('3.1', '420')
    """
    digits = max(0, 1 - int(np.floor(np.log10(value))))
    return f"{round(value, 1 - int(np.floor(np.log10(value)))):,.{digits}f}"
