"""The check of flags that name labels (--threshold, --cost, --answers) against the labels of the data."""

from __future__ import annotations

from collections.abc import Sequence

from lasttoken.core.config import Settings
from lasttoken.core.errors import SettingsError, one_of
from lasttoken.evaluation.decision_flags import AUTO, parse_targets
from lasttoken.evaluation.tasks.choice import task_of
from lasttoken.runs.zero_shot import parse_answers


def check_label_flags(settings: Settings, labels: Sequence[str]) -> None:
    """Reject decision rules and answers that do not match the labels, before training.

    Raises:
        SettingsError: see `Task.parse_decision` and `parse_answers`; or answers for other labels.
    """
    decision_flag, targets = parse_targets(settings.threshold, labels)
    task_of(labels, settings.separator).parse_decision(decision_flag, settings.cost)
    if targets and (settings.cost or decision_flag == AUTO):
        raise SettingsError(
            f"--threshold {settings.threshold} and {'--cost' if settings.cost else AUTO} both decide which label is "
            "predicted; use one of them"
        )
    if settings.answers is not None and set(parse_answers(settings.answers)) != set(labels):
        raise SettingsError(
            f"--answers is {settings.answers!r}; give one answer for each of {one_of(labels)}, and no other"
        )
