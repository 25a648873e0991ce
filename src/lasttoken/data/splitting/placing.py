"""Rows are placed on sides so that each label meets its quota; linked rows (a component) go to one side together.

Large components are placed first, each where its labels still have room; single rows then fill every quota exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.errors import DataError
from lasttoken.data.files import Examples
from lasttoken.data.splitting.near_duplicates import root

Indices = NDArray[np.intp]
ATTEMPTS = 20  # to put every label on every side; a few groups with several labels each may need more than one


def components_of(text_ids: Indices, groups: list[str] | None) -> Indices:
    """The component of each row, (N,): rows that share a text or a group, directly or through others.

    Rows with an empty group belong to no group.
    """
    parent = list(range(len(text_ids)))
    firsts: dict[str, int] = {}
    for text_id, group in zip(text_ids.tolist(), groups or [], strict=groups is not None):
        if group:
            first = firsts.setdefault(group, text_id)  # the first text of a group stands for the group
            parent[root(parent, first)] = root(parent, text_id)
    roots = np.array([root(parent, text_id) for text_id in text_ids.tolist()], np.intp)
    component: Indices = np.unique(roots, return_inverse=True)[1].astype(np.intp)
    return component


@dataclass(frozen=True)
class ComponentTable:
    """How many rows of each label a component has: one entry for each (component, label) that occurs, by component."""

    component: Indices  # (M,)
    label_id: Indices  # (M,)
    n_rows: Indices  # (M,)
    size: Indices  # rows of each component
    per_label: Indices  # (K,): components that have the label

    @classmethod
    def of(cls, component: Indices, label_ids: Indices, n_labels: int) -> ComponentTable:
        """Count the rows of N components and label_ids, (N,) each."""
        pairs, n_rows = np.unique(component * n_labels + label_ids, return_counts=True)
        label_id = pairs % n_labels
        per_label = np.bincount(label_id, minlength=n_labels)
        return cls(pairs // n_labels, label_id, n_rows.astype(np.intp), np.bincount(component), per_label)


def quotas_of(n_rows: Indices, fractions: Sequence[float]) -> Indices:
    """Rows of each label for each side, (K, S): largest remainders, then at least one everywhere.

    >>> quotas_of(np.array([10, 3]), (0.7, 0.1, 0.2)).tolist()
    [[7, 1, 2], [1, 1, 1]]
    """
    exact = n_rows[:, None] * np.array(fractions)
    quotas: Indices = np.floor(exact + 1e-9).astype(np.intp)
    rest = n_rows - quotas.sum(axis=1)
    rank = np.argsort(np.argsort(quotas - exact, axis=1, kind="stable"), axis=1, kind="stable")
    quotas += rank < rest[:, None]
    for quota in quotas:
        while quota.min() == 0:
            quota[quota.argmin()] += 1
            quota[quota.argmax()] -= 1
    return quotas


def place_rows(
    examples: Examples,
    component: Indices,
    labels: list[str],
    label_ids: Indices,
    fractions: Sequence[float],
    names: Sequence[str],
    seed: int,
) -> Indices:
    """The side of each row, (N,), with every label on each side.

    Raises:
        DataError: a label that has too few components, or that could not be put on every side.
    """
    table = ComponentTable.of(component, label_ids, len(labels))
    _reject_rare(examples, labels, label_ids, table, names)
    quotas = quotas_of(np.bincount(label_ids, minlength=len(labels)), fractions)
    rng = np.random.default_rng(seed)
    for attempt in range(ATTEMPTS):
        side = _assign(component, label_ids, table, quotas, rng, disorder=attempt)
        n_rows = np.bincount(label_ids * len(names) + side, minlength=quotas.size)
        if n_rows.all():
            return side
    label_id, side_index = divmod(int(n_rows.argmin()), len(names))
    raise DataError(
        f"label {labels[label_id]!r} of {examples.source or 'the data'} could not be put in the {names[side_index]} "
        "split, because its rows share texts or groups with rows of other labels; use another --seed or --group,"
        " or give your own splits"
    )


def _reject_rare(
    examples: Examples, labels: list[str], label_ids: Indices, table: ComponentTable, names: Sequence[str]
) -> None:
    """Raise if a label has fewer components than there are sides."""
    rare = np.flatnonzero(table.per_label < len(names)).tolist()
    if not rare:
        return
    n_rows = np.bincount(label_ids, minlength=len(labels))
    worst = min(rare, key=lambda label_id: int(n_rows[label_id]))
    count, n_components = int(n_rows[worst]), int(table.per_label[worst])
    counted = f"{count} {'row' if count == 1 else 'rows'}"
    if count > n_components:
        counted += f" but only {n_components} independent of each other (identical texts or one group count once)"
    n_more = len(rare) - 1
    others = f" ({n_more} other {'label is' if n_more == 1 else 'labels are'} too rare as well)" if n_more else ""
    advice = advice_for_rare(labels, [labels[label_id] for label_id in rare])
    if count >= len(names) > n_components:
        advice = "add other texts of it, or give your own splits"
    raise DataError(
        f"label {labels[worst]!r} of {examples.source or 'the data'} has {counted}, too few for one in each of"
        f" {', '.join(names) if len(names) <= 3 else f'{len(names)} parts'}{others}; {advice}"
    )


def advice_for_rare(labels: Sequence[str], rare: Sequence[str]) -> str:
    """What to do about labels with too few rows; many such labels point to another mistake than a few."""
    advice = "add examples of it, or remove or merge the label"
    if 2 * len(rare) <= len(labels):
        return advice
    separator = next((mark for mark in ("|", ";", ",") if sum(mark in label for label in rare) * 2 > len(rare)), None)
    if separator:
        return (
            f"if a row has several labels, separated by {separator!r}, pass --multi-label "
            f"(--label-separator {separator!r})"
        )
    return f"{advice}; or is another column the label (--label)?"


def _assign(
    component: Indices,
    label_ids: Indices,
    table: ComponentTable,
    quotas: Indices,
    rng: np.random.Generator,
    disorder: int,
) -> Indices:
    """The side of each row, (N,): components of several rows first, then single rows."""
    plan = _Plan.of(quotas, table.per_label)
    side = _place_components(table, plan, rng, disorder)[component]
    single = np.flatnonzero(side < 0)
    side[single] = _place_single(label_ids[single], plan, rng)
    return side


@dataclass
class _Plan:
    """The rows that are still to be placed. Plain lists, because the loop over components reads single numbers."""

    room: list[list[int]]  # [label][side]: rows left until the quota; negative when a component was too large
    n_components: list[int]  # [label]: components with the label that are not placed yet
    lacks: list[set[int]] = field(default_factory=list)  # [label]: sides that have no row of the label yet

    @classmethod
    def of(cls, quotas: Indices, per_label: Indices) -> _Plan:
        n_labels, n_sides = quotas.shape
        return cls(quotas.tolist(), per_label.tolist(), [set(range(n_sides)) for _ in range(n_labels)])

    def choose(self, counts: list[tuple[int, int]], draw: float) -> int:
        """The side for a component of these (label, rows); `draw` in [0, 1) decides among sides with room."""
        sides = list(range(len(self.room[0])))
        urgent = [
            label for label, _ in counts if self.lacks[label] and self.n_components[label] <= len(self.lacks[label])
        ]
        if urgent:
            gains = [sum(side in self.lacks[label] for label in urgent) for side in sides]
            sides = [side for side in sides if gains[side] == max(gains)]
        spare = {side: min(self.room[label][side] - n for label, n in counts) for side in sides}
        fitting = [side for side in sides if spare[side] >= 0]
        if not fitting:
            return max(sides, key=lambda side: spare[side])
        room = [sum(self.room[label][side] for label, _ in counts) for side in fitting]
        threshold = draw * sum(room)
        for side, width in zip(fitting, room, strict=True):
            threshold -= width
            if threshold < 0:
                return side
        return fitting[-1]

    def place(self, counts: list[tuple[int, int]], side: int) -> None:
        for label, n in counts:
            self.room[label][side] -= n
            self.n_components[label] -= 1
            self.lacks[label].discard(side)


def _place_components(table: ComponentTable, plan: _Plan, rng: np.random.Generator, disorder: int) -> Indices:
    """The side of each component, -1 for single rows: the largest first, in a looser order with more disorder."""
    side = np.full(len(table.size), -1, np.intp)
    many = np.flatnonzero(table.size > 1)
    size = table.size[many] * (1 + disorder * rng.random(len(many)))
    order = many[np.lexsort((rng.random(len(many)), -size))]
    starts = np.searchsorted(table.component, order).tolist()
    ends = np.searchsorted(table.component, order, side="right").tolist()
    draws = rng.random(len(order)).tolist()
    label_id, n_rows = table.label_id.tolist(), table.n_rows.tolist()
    chosen = []
    for start, end, draw in zip(starts, ends, draws, strict=True):
        counts = list(zip(label_id[start:end], n_rows[start:end], strict=True))
        chosen.append(plan.choose(counts, draw))
        plan.place(counts, chosen[-1])
    side[order] = chosen
    return side


def _place_single(label_ids: Indices, plan: _Plan, rng: np.random.Generator) -> Indices:
    """The side of each single row: the rows of a label, shuffled, fill its quotas."""
    side = np.empty(len(label_ids), np.intp)
    shuffled = rng.permutation(len(label_ids))
    by_label = shuffled[np.argsort(label_ids[shuffled], kind="stable")]
    ends = np.cumsum(np.bincount(label_ids, minlength=len(plan.room)))
    for label, rows in enumerate(np.split(by_label, ends[:-1])):
        take = _fill(plan.room[label], plan.lacks[label], len(rows))
        side[rows] = np.repeat(np.arange(len(take)), take)
    return side


def _fill(room: list[int], lacks: set[int], n_rows: int) -> list[int]:
    """How many of `n_rows` rows each side takes: its room, or fewer where a component on another side was too large.

    >>> _fill([70, 10, 20], {0, 1, 2}, 100), _fill([5, -3, 2], {0, 2}, 4)
    ([70, 10, 20], [2, 0, 2])
    """
    take = [max(0, n) for n in room]
    keep = [int(side in lacks) for side in range(len(room))]
    while (excess := sum(take) - n_rows) > 0:
        side = max(range(len(room)), key=lambda s: (take[s] - keep[s], take[s]))
        take[side] -= min(excess, max(1, take[side] - keep[side]))
    return take
