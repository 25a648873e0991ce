"""From probabilities to an answer: the most probable label, unless thresholds, costs or doubt say otherwise.

    probs [N, K] ──► expected cost of each answer, or a threshold for some labels ──► label_id
                 └─► the most probable label is below `abstain_below` ──► no answer

    threshold  spam=0.9      spam only when its probability is at least 0.9; otherwise the best of the other labels
    cost       spam:ham=5    calling a spam ham costs 5, any other error 1; the answer of least expected cost wins
    abstain    0.9           no answer at all when no label reaches 0.9

Thresholds and costs mean what they say only when probabilities do, which is what the fitted temperature is for.
Source of the costs' rule: Elkan, "The foundations of cost-sensitive learning", IJCAI 2001.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval
from numpy.typing import ArrayLike, NDArray

from lasttoken.core.documents import STRICT
from lasttoken.core.errors import SettingsError, nearest, one_of
from lasttoken.core.spelling import match_label

AUTO = "auto"
TARGET = re.compile(r"(.*)@(precision|recall)")
MOST_NAMED = 8  # thresholds in a sentence
EXAMPLE = "write a probability to abstain below, such as 0.9, label=probability such as spam=0.9, or auto"


LabelId = Annotated[int, Ge(0)]
Probability = Annotated[float, Interval(ge=0, le=1)]


@dataclass(frozen=True)
class Decision:
    """How a classifier answers. The default: the most probable label, always."""

    __pydantic_config__ = STRICT

    thresholds: tuple[tuple[LabelId, Probability], ...] = ()  # the least probability at which a label is given
    costs: tuple[tuple[LabelId, LabelId, Annotated[float, Ge(0)]], ...] = ()  # true, answered, cost; other errors: 1
    abstain_below: Probability = 0.0

    def label_ids(self) -> set[int]:
        """The labels that a threshold or a cost names."""
        return {at for at, _ in self.thresholds} | {at for *pair, _ in self.costs for at in pair}

    @property
    def is_default(self) -> bool:
        """Whether the most probable label is always the answer."""
        return self == Decision()

    def decide(self, log_probs: ArrayLike) -> NDArray[np.int64]:
        """The label_id of each row of log-probabilities [N, K], ignoring `abstain_below`.

        >>> Decision(thresholds=((1, 0.9),)).decide(np.log([[0.2, 0.8], [0.05, 0.95]])).tolist()
        [0, 1]
        """
        probs = np.exp(np.asarray(log_probs, dtype=np.float64))
        if self.costs:
            return np.asarray((probs @ self.cost_matrix(probs.shape[1])).argmin(1), dtype=np.int64)
        reached = probs.copy()
        for label_id, least in self.thresholds:
            at_least = probs[:, label_id] >= least
            reached[:, label_id] = np.where(at_least, 1 + probs[:, label_id], -1 + probs[:, label_id])
        return np.asarray(reached.argmax(1), dtype=np.int64)

    def decide_each(self, log_probs: ArrayLike) -> NDArray[np.bool_]:
        """Which labels each row of log-probabilities [N, K] is given, where it may have any number: [N, K].

        A label is given from its threshold on; without one, from 0.5.
        """
        probs = np.exp(np.asarray(log_probs, dtype=np.float64))
        least = np.full(probs.shape[1], 0.5)
        for label_id, threshold in self.thresholds:
            least[label_id] = threshold
        return np.asarray(probs >= least)

    def over(self, other: Decision) -> Decision:
        """This rule's thresholds, and the other's for the labels that it does not name."""
        return replace(self, thresholds=tuple(sorted({**dict(other.thresholds), **dict(self.thresholds)}.items())))

    def answers(self, log_probs: ArrayLike) -> NDArray[np.bool_]:
        """Which rows [N] get an answer."""
        return np.asarray(np.exp(np.asarray(log_probs, dtype=np.float64)).max(1, initial=0.0) >= self.abstain_below)

    def cost_matrix(self, n_labels: int) -> NDArray[np.float64]:
        """Costs [K true, K answered]: 0 for the right answer, 1 for an error that is not named."""
        matrix = 1.0 - np.eye(n_labels)
        for true, answered, cost in self.costs:
            matrix[true, answered] = cost
        return matrix

    def in_words(self, labels: Sequence[str], multi_label: bool = False) -> str:
        """The rule as a sentence.

        >>> Decision(thresholds=((1, 0.9),)).in_words(["ham", "spam"])
        'spam only when its probability is at least 0.9'
        """
        if multi_label:
            named = ", ".join(f"{labels[at]} {least:.2f}" for at, least in self.thresholds[:MOST_NAMED])
            more = f" and {len(self.thresholds) - MOST_NAMED} more" if len(self.thresholds) > MOST_NAMED else ""
            return (
                f"every label whose probability reaches its threshold: {named}{more}"
                if named
                else "every label above 0.5"
            )
        parts = [f"{labels[at]} only when its probability is at least {least:g}" for at, least in self.thresholds]
        if self.costs:
            named = ", ".join(f"{labels[true]} called {labels[said]} costs {cost:g}" for true, said, cost in self.costs)
            parts.append(f"the answer of least expected cost ({named}, any other error 1)")
        if self.abstain_below:
            parts.append(f"no answer when no label reaches {self.abstain_below:g}")
        return "; ".join(parts) or "the most probable label"


MOST_PROBABLE = Decision()


@dataclass(frozen=True)
class Target:
    """What a label's threshold should reach: a metric, precision or recall, and its least value."""

    label_id: int
    metric: str
    least: float


def parse_targets(threshold: str | None, labels: Sequence[str]) -> tuple[str | None, tuple[Target, ...]]:
    """The targets of `--threshold`, and what else it says.

    >>> parse_targets("spam@precision=0.99,ham=0.5", ["ham", "spam"])
    ('ham=0.5', (Target(label_id=1, metric='precision', least=0.99),))

    Raises:
        SettingsError: a label that is not known or is named twice, or a value that is not above 0 and at most 1.
    """
    targets: list[Target] = []
    rest = []
    for part in (threshold or "").split(","):
        name, _, value = part.rpartition("=")
        match = TARGET.fullmatch(name.strip())
        if match is None or match_label(name, labels) is not None:
            rest.append(part)
            continue
        least = _number(value, f"--threshold is {threshold!r}; write a target such as spam@precision=0.99")
        if not 0 < least <= 1:
            raise SettingsError(f"--threshold is {threshold!r}; a {match[2]} must be above 0 and at most 1")
        targets.append(Target(_label_id(match[1], labels, "--threshold"), match[2], least))
    named = [target.label_id for target in targets]
    named += [label_id for part in rest if (label_id := _named(part, labels)) is not None]
    twice = [label_id for label_id in named if named.count(label_id) > 1]
    if targets and twice:
        raise SettingsError(
            f"--threshold is {threshold!r}, which names {labels[twice[0]]!r} twice; name each label once"
        )
    return ",".join(rest) or None, tuple(targets)


def _named(part: str, labels: Sequence[str]) -> int | None:
    known = match_label(part.rpartition("=")[0].strip(), labels)
    return None if known is None else list(labels).index(known)


def parse_decision(
    threshold: str | None, cost: str | None, labels: Sequence[str], multi_label: bool = False
) -> Decision:
    """The rule of `--threshold` and `--cost`; `auto` is left to whoever has rows to fit it on (`best_threshold`).

    >>> parse_decision("spam=0.9", None, ["ham", "spam"])
    Decision(thresholds=((1, 0.9),), costs=(), abstain_below=0.0)

    With `multi_label` a probability without a label is the threshold of all labels that are not named.

    Raises:
        SettingsError: not of these forms, a label that is not known, thresholds and costs at once, or a target, which
            `parse_targets` has to take out first.
    """
    if multi_label and cost:
        raise SettingsError("--cost is for classifiers of one label a text; use --threshold label=probability")
    decision = Decision(costs=_parse_costs(cost, labels) if cost else ())
    for part in (threshold or "").split(",") if threshold and threshold != AUTO else []:
        label, sign, value = part.rpartition("=")
        if (target := TARGET.fullmatch(label.strip())) and match_label(label, labels) is None:
            raise SettingsError(
                f"--threshold {part} is fitted on the validation rows of a training; give a probability here, such as "
                f"{target[1]}=0.9, or train with it"
            )
        least = _number(value, f"--threshold is {threshold!r}; {EXAMPLE}")
        if not 0 < least < 1:
            raise SettingsError(f"--threshold is {threshold!r}; a probability must be above 0 and below 1")
        if sign:
            at = _label_id(label, labels, "--threshold")
            decision = replace(decision, thresholds=(*decision.thresholds, (at, least)))
        elif multi_label:
            decision = decision.over(Decision(thresholds=tuple((at, least) for at in range(len(labels)))))
        else:
            decision = replace(decision, abstain_below=least)
    if decision.costs and (decision.thresholds or threshold == AUTO):
        raise SettingsError("--cost and a --threshold for a label both say which label is given; use one of them")
    if threshold == AUTO and len(labels) != 2 and not multi_label:
        raise SettingsError(
            f"--threshold auto is for two labels, and there are {len(labels)}; {EXAMPLE.removesuffix(', or auto')}"
        )
    return decision


def _parse_costs(text: str, labels: Sequence[str]) -> tuple[tuple[int, int, float], ...]:
    found = []
    for part in text.split(","):
        pair, _, value = part.rpartition("=")
        true, sign, answered = pair.rpartition(":")
        explain = f"--cost is {text!r}; write true:answered=cost, such as spam:ham=5 for spam taken for ham"
        if not sign:
            raise SettingsError(explain)
        cost = _number(value, explain)
        if not 0 <= cost < np.inf:
            raise SettingsError(f"--cost is {text!r}; a cost must be 0 or more")
        ids = _label_id(true, labels, "--cost"), _label_id(answered, labels, "--cost")
        if ids[0] == ids[1]:
            raise SettingsError(f"--cost is {text!r}; the right answer costs nothing, name two labels")
        found.append((*ids, cost))
    return tuple(found)


def _number(text: str, explain: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise SettingsError(explain) from error


def _label_id(label: str, labels: Sequence[str], flag: str) -> int:
    known = match_label(label.strip(), labels)
    if known is None:
        raise SettingsError(
            f"{flag} names the label {label!r}, which is not one of {one_of(labels)}{nearest(label, labels)}"
        )
    return list(labels).index(known)


def best_threshold(log_probs: ArrayLike, label_ids: NDArray[np.int64]) -> Decision:
    """The threshold for the rarer of two labels that maximises the mean of both labels' F1 on these rows.

    Of equal ones the nearest to 0.5; only probabilities half-way between two rows' are tried.
    """
    rare = int(np.bincount(label_ids, minlength=2).argmin())
    p = np.exp(np.asarray(log_probs, dtype=np.float64))[:, rare]
    order = np.argsort(-p, kind="stable")
    is_rare = label_ids[order] == rare
    hits = np.concatenate(([0], np.cumsum(is_rare)))  # [N + 1]: the n most probable rows are given the rarer label
    n_given = np.arange(len(p) + 1)
    n_rare, n = int(is_rare.sum()), len(p)
    f1_rare = 2 * hits / np.maximum(n_given + n_rare, 1)
    hits_other = (n - n_rare) - (n_given - hits)
    f1_other = 2 * hits_other / np.maximum((n - n_given) + (n - n_rare), 1)
    sorted_p = np.concatenate(([1.0], p[order], [0.0]))
    cuts = (sorted_p[:-1] + sorted_p[1:]) / 2
    usable = (sorted_p[:-1] > sorted_p[1:]) & (cuts > 0) & (cuts < 1)
    score = np.where(usable, f1_rare + f1_other, -1.0)
    tied = np.flatnonzero(score >= score.max() - 1e-12)
    best = tied[np.abs(cuts[tied] - 0.5).argmin()]
    return Decision(thresholds=((rare, float(cuts[best])),)) if score[best] >= 0 else Decision()
