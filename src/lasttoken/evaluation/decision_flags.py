"""The values of `--threshold` and `--cost`: from a string to a decision rule and its targets.

--threshold 0.9                    abstain below 0.9; of a multi-label task: the threshold of every label
--threshold spam=0.9,ham=0.5       a threshold for a label
--threshold spam@precision=0.99    a target: the threshold is fitted on validation, see `targets.py`
--threshold auto                   fitted on validation; of a single-label task for two labels only
--cost spam:ham=5                  the cost of predicting ham for a spam
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lasttoken.core.errors import SettingsError, nearest, one_of
from lasttoken.core.spelling import match_label
from lasttoken.evaluation.decision import Decision

AUTO = "auto"
TARGET = re.compile(r"(.*)@(precision|recall)")
EXAMPLE = "give a probability to abstain below, such as 0.9, or label=probability, such as spam=0.9"


@dataclass(frozen=True)
class Target:
    """What the threshold of a label should reach: at least `least` in the metric, precision or recall."""

    label_id: int
    metric: str
    least: float


def parse_targets(threshold: str | None, labels: Sequence[str]) -> tuple[str | None, tuple[Target, ...]]:
    """Split the value of `--threshold` into the targets and the other parts.

    >>> parse_targets("spam@precision=0.99,ham=0.5", ["ham", "spam"])
    ('ham=0.5', (Target(label_id=1, metric='precision', least=0.99),))

    Raises:
        SettingsError: a label that is unknown or is named twice, or a value that is not above 0 and at most 1.
    """
    targets: list[Target] = []
    other_parts = []
    for part in (threshold or "").split(","):
        name, _, value = part.rpartition("=")
        match = TARGET.fullmatch(name.strip())
        if match is None or match_label(name, labels) is not None:
            other_parts.append(part)
            continue
        least = _number(value, f"--threshold is {threshold!r}; write a target such as spam@precision=0.99")
        if not 0 < least <= 1:
            raise SettingsError(f"--threshold is {threshold!r}; a {match[2]} must be above 0 and at most 1")
        targets.append(Target(_label_id(match[1], labels, "--threshold"), match[2], least))
    named = [target.label_id for target in targets]
    named += [label_id for part in other_parts if (label_id := _named_label(part, labels)) is not None]
    twice = [label_id for label_id in named if named.count(label_id) > 1]
    if targets and twice:
        raise SettingsError(
            f"--threshold is {threshold!r}, which names {labels[twice[0]]!r} twice; name each label once"
        )
    return ",".join(other_parts) or None, tuple(targets)


def _named_label(part: str, labels: Sequence[str]) -> int | None:
    label = match_label(part.rpartition("=")[0].strip(), labels)
    return None if label is None else list(labels).index(label)


def parse_decision(threshold: str | None, cost: str | None, labels: Sequence[str]) -> Decision:
    """The rule of a single-label task. For `auto` it is the default rule; the threshold is fitted later.

    >>> parse_decision("spam=0.9", None, ["ham", "spam"])
    Decision(thresholds=((1, 0.9),), costs=(), abstain_below=0.0)

    Raises:
        SettingsError: neither of these forms, an unknown label, thresholds and costs at once, `auto` for more than two
            labels, or a target, which `parse_targets` has to take out first.
    """
    decision = Decision(costs=_parse_costs(cost, labels) if cost else ())
    for label_id, value in _parse_thresholds(threshold, labels):
        if label_id is None:
            decision = replace(decision, abstain_below=value)
        else:
            decision = replace(decision, thresholds=(*decision.thresholds, (label_id, value)))
    if decision.costs and (decision.thresholds or threshold == AUTO):
        raise SettingsError("--cost and a --threshold for a label both decide which label is predicted; use one")
    if threshold == AUTO and len(labels) != 2:
        raise SettingsError(f"--threshold auto is for two labels, and there are {len(labels)}; {EXAMPLE}")
    return decision


def parse_label_thresholds(threshold: str | None, cost: str | None, labels: Sequence[str]) -> Decision:
    """The rule of a multi-label task: a probability without a label is the threshold of all labels not named.

    >>> parse_label_thresholds("0.3,love=0.6", None, ["joy", "love"]).thresholds
    ((0, 0.3), (1, 0.6))

    Raises:
        SettingsError: neither of these forms, an unknown label, a cost, or a target.
    """
    if cost:
        raise SettingsError("--cost is for single-label classifiers; use --threshold label=probability")
    decision = Decision()
    for label_id, value in _parse_thresholds(threshold, labels):
        ids = range(len(labels)) if label_id is None else [label_id]
        new = Decision(thresholds=tuple((each, value) for each in ids))
        decision = decision.over(new) if label_id is None else new.over(decision)
    return decision


def _parse_thresholds(threshold: str | None, labels: Sequence[str]) -> Iterator[tuple[int | None, float]]:
    """The parts of `--threshold`: the label id, None for a probability without a label, and the probability."""
    for part in (threshold or "").split(",") if threshold and threshold != AUTO else []:
        label, sign, value = part.rpartition("=")
        if (target := TARGET.fullmatch(label.strip())) and match_label(label, labels) is None:
            raise SettingsError(
                f"--threshold {part} is fitted on the validation rows of a training; give a probability here, such as "
                f"{target[1]}=0.9, or train with it"
            )
        probability = _number(value, f"--threshold is {threshold!r}; {EXAMPLE}, or auto")
        if not 0 < probability < 1:
            raise SettingsError(f"--threshold is {threshold!r}; a probability must be above 0 and below 1")
        yield (_label_id(label, labels, "--threshold") if sign else None), probability


def _parse_costs(text: str, labels: Sequence[str]) -> tuple[tuple[int, int, float], ...]:
    costs = []
    for part in text.split(","):
        pair, _, value = part.rpartition("=")
        true, sign, predicted = pair.rpartition(":")
        explain = f"--cost is {text!r}; write true:predicted=cost, such as spam:ham=5 for spam predicted as ham"
        if not sign:
            raise SettingsError(explain)
        cost = _number(value, explain)
        if not 0 <= cost < np.inf:
            raise SettingsError(f"--cost is {text!r}; a cost must be 0 or more")
        ids = _label_id(true, labels, "--cost"), _label_id(predicted, labels, "--cost")
        if ids[0] == ids[1]:
            raise SettingsError(f"--cost is {text!r}; a correct prediction costs nothing, name two labels")
        costs.append((*ids, cost))
    return tuple(costs)


def _number(text: str, explain: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise SettingsError(explain) from error


def _label_id(label: str, labels: Sequence[str], flag: str) -> int:
    match = match_label(label.strip(), labels)
    if match is None:
        raise SettingsError(
            f"{flag} names the label {label!r}, which is not one of {one_of(labels)}{nearest(label, labels)}"
        )
    return list(labels).index(match)
