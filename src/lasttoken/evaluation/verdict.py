"""The verdict: is the GPT better than the best baseline on the same rows, and by how much?

The best baseline is chosen on the rows on which it is compared, so the comparison favors the baseline, never the GPT.
The metric is the task's headline metric: accuracy of a single-label task, micro-F1 of a multi-label task. Where the
GPT is ahead by accuracy but the rows are too few to tell, the verdict estimates how many would be enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.evaluation.baselines import BASELINES
from lasttoken.evaluation.intervals import Difference
from lasttoken.evaluation.sample_size import rows_in_words, rows_to_tell_apart
from lasttoken.evaluation.tasks.task import Task, Truth


@dataclass(frozen=True)
class Verdict:
    """The comparison with the best baseline. `sentences`: the conclusion, then the evidence."""

    baseline: str
    difference: float  # the GPT's headline metric minus the baseline's
    difference_ci95: tuple[float, float]
    p_value: float | None  # exact McNemar test; None of micro-F1
    times_faster: float | None  # the GPT's time per text divided by the baseline's
    sentences: tuple[str, ...]
    measure: str = "accuracy"  # or micro_f1
    rows_needed: int | None = None  # to tell the two apart, where the GPT is ahead but its interval includes 0

    def to_json(self) -> dict[str, Any]:
        """The verdict in metrics.json and the report."""
        return {**vars(self), "difference_ci95": list(self.difference_ci95), "sentences": list(self.sentences)}


def judge(
    task: Task,
    truth: Truth,
    ours: Truth,
    baselines: Mapping[str, Truth],
    *,
    seconds_per_row: Mapping[str, float] | None = None,
    groups: NDArray[np.intp] | None = None,
    contents: str | None = None,
) -> Verdict | None:
    """Compare predictions with those of the baselines on the same rows; None when there is no baseline.

    Args:
        truth: label ids [N], or bool [N, K] of a multi-label task.
        ours: the GPT's predictions, in the same shape.
        baselines: name → predictions of the baseline.
        seconds_per_row: of "ours" and of each baseline, where it was measured.
        groups: [N]; copies of a text have the same number and count as one observation.
        contents: what the classifier consists of, where it is not a GPT alone.
    """
    if not baselines:
        return None
    differences = {name: task.difference(truth, ours, theirs, groups) for name, theirs in baselines.items()}
    best = min(differences, key=lambda name: differences[name].value)
    difference, seconds = differences[best], seconds_per_row or {}
    times = seconds["ours"] / seconds[best] if seconds.get("ours") and seconds.get(best) else None
    verdict = Verdict(
        best,
        difference.value,
        difference.ci95,
        difference.p_value,
        times,
        (),
        task.headline,
        _rows_needed(difference, len(truth)),
    )
    evidence = (
        f"{task.evidence(difference, len(truth))} The best baseline was chosen on these same rows, which favors it."
    )
    return replace(verdict, sentences=(_sentence(verdict, task.points, len(truth), _subject(contents)), evidence))


def _rows_needed(difference: Difference, n_rows: int) -> int | None:
    """The rows that would tell the two apart; None where they are told apart, or compared by another metric."""
    if difference.n_only_a is None or difference.n_only_b is None or difference.ci95[0] > 0:
        return None
    return rows_to_tell_apart(difference.n_only_a / n_rows, difference.n_only_b / n_rows, difference.design_effect)


def _subject(contents: str | None) -> str:
    return f"the blend ({contents})" if contents else "the GPT"


def _sentence(verdict: Verdict, points: str, n_rows: int, subject: str) -> str:
    low, high = verdict.difference_ci95
    rival = f"{BASELINES[verdict.baseline].words} ({verdict.baseline})"
    faster = ""
    if verdict.times_faster and verdict.times_faster >= 2:
        faster = f"answers about {_round(verdict.times_faster)} times faster"
    speed = f" and {faster}" if faster else ""
    if low > 0:
        return (
            f"{subject[:1].upper()}{subject[1:]} is better than the best baseline, {rival}, by "
            f"{_points(verdict.difference, low, high, points)}."
        )
    if high < 0:
        return (
            f"{subject[:1].upper()}{subject[1:]} is worse than {rival} by "
            f"{_points(-verdict.difference, -high, -low, points)}: use the baseline, which is cheaper{speed}."
        )
    interval = f"{signed_points(verdict.difference)} {points} ({signed_points(low)} to {signed_points(high)})"
    if verdict.difference <= 0:
        return f"No evidence that {subject} is better: {rival} does as well{speed}. The difference is {interval}."
    needed = f"; {rows_in_words(verdict.rows_needed)} would be needed if it is real" if verdict.rows_needed else ""
    return (
        f"No evidence that {subject} is better than {rival}{f', which {faster}' if faster else ''}: on {n_rows:,} "
        f"{'row' if n_rows == 1 else 'rows'} the difference of {interval} cannot be told from chance{needed}."
    )


def _points(value: float, low: float, high: float, points: str = "points") -> str:
    """A difference with its interval, in points.

    >>> _points(0.019, 0.003, 0.036)
    '1.9 points (0.3 to 3.6)'
    """
    return f"{value * 100:.1f} {points} ({low * 100:.1f} to {high * 100:.1f})"


def signed_points(value: float) -> str:
    """A difference in points, with its sign.

    >>> signed_points(-0.0172), signed_points(0.004)
    ('−1.7', '+0.4')
    """
    return f"{value * 100:+.1f}".replace("-", "−")


def _round(value: float) -> str:
    """A ratio of times with two significant digits: timings are not more precise.

    >>> _round(3.14), _round(418.2)
    ('3.1', '420')
    """
    digits = max(0, 1 - int(np.floor(np.log10(value))))
    return f"{round(value, 1 - int(np.floor(np.log10(value)))):,.{digits}f}"
