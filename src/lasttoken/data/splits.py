"""Splits that share nothing: stratified by label, with texts that are alike and rows of one group on one side.

    rows        components                       quotas of each label          sides
    0 "a" g1 ┐
    1 "a" g2 ┤  nearly one text or one group,    70 % / 10 % / 20 % of its     large components first, each where
    2 "b" g2 ┘  directly or through others       rows, at least one each       its labels still have room, then the
    3 "c"    ─  a row alone                                                    rows alone fill every quota exactly

What is nearly one text is told by likeness.py. Where keeping near-duplicates together leaves no fair split, because
a few templates make up a label, only equal texts are kept together, and a note says so. Labels with too few rows for
every side stay in train, all rows of their components with them. Chapter 6's own way, which knows nothing of repeated
texts, is in book.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.errors import DataError, SettingsError, one_of
from lasttoken.data.files import Examples
from lasttoken.data.labels import in_rows, natural_order, near_miss, split_labels
from lasttoken.data.near_duplicates import Likeness, likeness, root

Indices = NDArray[np.intp]

SPLIT_NAMES = ("train", "validation", "test")
ATTEMPTS = 20  # at getting every label into every split; few groups with several labels each may need more than one
MOST_NAMED = 8  # labels in a sentence
LARGEST_IN_TRAIN = 0.05  # of all rows, up to which a label with enough rows but few different texts stays in train
WIDEST_FIRST = ("near", "normalised", "exact")  # meanings of "one text", of likeness.py
KEPT_TOGETHER = {
    "near": "texts that are nearly equal are kept in one split",
    "normalised": "texts that differ by case, digits or punctuation are kept in one split, but not all that are nearly"
    " equal, for that would leave no fair split: the figures may flatter",
    "exact": "only identical texts are kept in one split, for to keep together all that are nearly equal would leave no"
    " fair split: the figures may flatter",
}


@dataclass(frozen=True)
class Splits:
    """Train, validation and test examples; None for a split that was not given. `notes` are for the user."""

    train: Examples
    validation: Examples | None
    test: Examples | None
    notes: tuple[str, ...] = ()
    label_counts: dict[str, int] | None = None  # rows of each label in train before it was thinned, if it was
    facts: Mapping[str, Any] = field(default_factory=dict)  # what was left out or merged, as metrics.json holds it

    def named(self) -> dict[str, Examples]:
        """The splits there are, by name."""
        found = zip(SPLIT_NAMES, (self.train, self.validation, self.test), strict=True)
        return {name: examples for name, examples in found if examples is not None}

    def with_examples(self, named: Mapping[str, Examples]) -> Splits:
        """The same splits with other examples, by name."""
        return replace(self, train=named["train"], validation=named.get("validation"), test=named.get("test"))


# Labels -----------------------------------------------------------------------------------------------------------


def labels_of(examples: Examples) -> list[str]:
    """The labels of labelled examples.

    Raises:
        DataError: there are none.
    """
    if examples.labels is None:
        raise DataError(f"{examples.source or 'the examples'} have no labels; name their column with --label")
    return examples.labels


def label_sets(examples: Examples) -> list[tuple[str, ...]]:
    """The labels of each example; one each unless `examples.separator` says that there may be any number.

    Raises:
        DataError: there are none.
    """
    return [split_labels(label, examples.separator) for label in labels_of(examples)]


def label_counts(examples: Examples) -> dict[str, int]:
    """Rows of each label, in natural order."""
    counts = Counter(label for labels in label_sets(examples) for label in labels)
    return {label: counts[label] for label in natural_order(counts)}


def label_names(examples: Examples) -> list[str]:
    """The labels in natural order.

    Raises:
        DataError: fewer than two; one is enough where a text may have none.
    """
    names = list(label_counts(examples))
    if len(names) < (2 if examples.separator is None else 1):
        found = f"only one label, {names[0]!r}" if names else "no examples" if not len(examples) else "no label at all"
        raise DataError(
            f"{examples.source or 'the data'} has {found}; a classifier needs examples of at least two labels"
        )
    return names


def truth_of(examples: Examples, labels: Sequence[str]) -> NDArray[np.int64] | NDArray[np.bool_]:
    """The label_id of each example [N]; where a text has any number of labels, whether it has each: [N, K] bool.

    Raises:
        KeyError: a label that is not one of the K.
    """
    ids = {label: label_id for label_id, label in enumerate(labels)}
    if examples.separator is None:
        return np.array([ids[label] for label in labels_of(examples)], dtype=np.int64)
    targets = np.zeros((len(examples), len(labels)), dtype=np.bool_)
    for row, found in enumerate(label_sets(examples)):
        targets[row, [ids[label] for label in found]] = True
    return targets


def number_labels(examples: Examples) -> tuple[list[str], Indices]:
    """The labels in natural order, and the index among them by which an example is stratified, of shape (N,).

    Of several labels that is the rarest, and without one the commonest: so the rare ones are spread most evenly.
    """
    names = label_names(examples)
    if examples.separator is not None:
        return _rarest_labels(examples)
    at = {name: label_id for label_id, name in enumerate(names)}
    return names, np.fromiter((at[label] for label in labels_of(examples)), np.intp, len(examples))


def _rarest_labels(examples: Examples) -> tuple[list[str], Indices]:
    counts = label_counts(examples)
    commonest = max(counts, key=counts.__getitem__)
    rarest = [min(labels, key=counts.__getitem__, default=commonest) for labels in label_sets(examples)]
    names = natural_order(rarest)
    at = {name: label_id for label_id, name in enumerate(names)}
    return names, np.array([at[label] for label in rarest], dtype=np.intp)


# Splitting --------------------------------------------------------------------------------------------------------


def split_examples(examples: Examples, train_fraction: float, validation_fraction: float, seed: int) -> Splits:
    """Cut examples into train, validation and test (the rest), rows in the file's order.

    Each label is spread by the fractions to within a row, as far as components allow, and is in every split, unless
    it has too few rows for that: those stay in train. `notes` say so, how many rows repeat another's text, and by which
    meaning texts were kept together. The same examples and seed give the same splits.

    Raises:
        DataError: one label only, labels that nearly all have too few rows for three splits, or a common one with too
            few independent groups.
        SettingsError: fractions that leave nothing for a split.
    """
    fractions = (train_fraction, validation_fraction, 1 - train_fraction - validation_fraction)
    if min(fractions) < 1e-9:
        raise SettingsError(
            f"--train-fraction {train_fraction} and --validation-fraction {validation_fraction} leave nothing for one"
            " of train, validation and test; use fractions such as 0.7 and 0.1"
        )
    cut = cut_rows(examples, fractions, SPLIT_NAMES, seed)
    train, validation, test = (examples.take(rows.tolist()) for rows in cut.sides)
    return _with_train_only(Splits(train, validation, test, cut.notes))


def cut_validation(train: Examples, fraction: float, seed: int, rare: str = "first") -> Splits:
    """Cut a validation split of this fraction from train, by the rules of `split_examples`.

    `rare` is "first" or "refuse", see `cut_rows`. `notes` say what was found about repeated texts.

    Raises:
        DataError, SettingsError: as `split_examples`.
    """
    if not 0 < fraction < 1:
        raise SettingsError(f"--validation-fraction is {fraction}; it must be above 0 and below 1")
    cut = cut_rows(train, (1 - fraction, fraction), SPLIT_NAMES[:2], seed, rare)
    kept, validation = (train.take(rows.tolist()) for rows in cut.sides)
    return _with_train_only(Splits(kept, validation, None, cut.notes))


def _with_train_only(splits: Splits) -> Splits:
    """The splits, with a note about the labels that are in train only."""
    train, *others = (label_counts(examples) for examples in splits.named().values())
    alone = {label: n for label, n in train.items() if not any(label in other for other in others)}
    if not alone:
        return splits
    named, more = dict(list(alone.items())[:MOST_NAMED]), len(alone) - MOST_NAMED
    one = len(alone) == 1
    note = (
        f"{'label' if one else 'labels'} {in_rows(named)}{f' and {more:,} more' if more > 0 else ''} "
        f"{'has' if one else 'have'} too few rows for every split and {'is' if one else 'are'} in train only: no "
        f"metric tells how well {'it is' if one else 'they are'} recognized; add rows, or leave "
        f"{'it' if one else 'them'} out with --min-rows {max(alone.values()) + 1}"
    )
    if 2 * len(alone) > len(train):
        note += f" (most labels are so rare: {_advice_for_rare(list(train), list(alone))})"
    return replace(splits, notes=(*splits.notes, note), facts={**splits.facts, "labels_in_train_only": alone})


def _repeat_notes(likeness: Likeness, kept: str) -> tuple[str, ...]:
    """How many rows repeat an earlier one, and which of them were kept on one side."""
    rows = np.arange(len(likeness.exact))
    n_exact, n_near = (int((ids != rows).sum()) for ids in (likeness.exact, likeness.near))
    if not n_near:
        return ()
    found = f"{n_exact:,} {'row repeats' if n_exact == 1 else 'rows repeat'} the text of another"
    if n_near == n_exact:
        return (f"{found}; identical texts are kept in one split",)
    return (f"{found} and {n_near - n_exact:,} more nearly do; {KEPT_TOGETHER[kept]}",)


def _size_notes(side: Indices, names: Sequence[str], quotas: Indices) -> list[str]:
    """Sentences about splits that large components made larger or smaller than asked, by more than rounding does."""
    n_rows, slack = len(side), max(0.02 * len(side), len(quotas))
    return [
        f"{name} has {n:,} of {n_rows:,} rows instead of {wanted:,}, because rows that share a text or a"
        " group, directly or through others, are never cut apart"
        for name, n, wanted in zip(
            names, np.bincount(side[side >= 0], minlength=len(names)).tolist(), quotas.sum(axis=0).tolist(), strict=True
        )
        if abs(n - wanted) > slack
    ]


@dataclass(frozen=True)
class Cut:
    """The rows of each side, in order; `apart`: those on no side; `rare`: labels, with their rows, on one side only."""

    sides: list[Indices]
    apart: Indices
    rare: dict[str, int]
    notes: tuple[str, ...]


def cut_folds(examples: Examples, n_folds: int, seed: int) -> Cut:
    """The rows of each of `n_folds` equal parts, by the rules of `split_examples`: no text is in two of them.

    Rows of a label with too few rows for every fold are in none: they can be trained on in each and tested in none.

    Raises:
        DataError: one label only, labels that nearly all have too few rows, or a common one with too few independent
            groups.
        SettingsError: fewer than two folds.
    """
    if n_folds < 2:
        raise SettingsError(f"--folds is {n_folds}; it must be at least 2")
    names = [f"fold {fold}" for fold in range(1, n_folds + 1)]
    return cut_rows(examples, [1 / n_folds] * n_folds, names, seed, "apart")


def cut_rows(
    examples: Examples, fractions: Sequence[float], names: Sequence[str], seed: int, rare: str = "first"
) -> Cut:
    """The rows of each side, and notes: by the widest meaning of "one text" that leaves fair splits, else by equality.

    `rare` says what happens to a label with too few rows or texts for every side: "first" puts all of its rows on the
    first side, "apart" on none, "refuse" raises. Rows that share a text or group with them go with them.

    Raises:
        DataError: one label only, labels that nearly all have too few rows, or a common one with too few independent
            groups for the sides.
    """
    labels, label_ids = number_labels(examples)
    alike = likeness(examples.texts)
    is_rare = _rare_labels(_components(alike.exact, examples.groups), label_ids, len(names))
    if rare == "refuse":
        is_rare[:] = False
    common = np.flatnonzero(~is_rare)
    common_ids = np.cumsum(~is_rare) - 1  # label_id among the common ones

    def sides(kind: str) -> Indices:
        """The side of each row, -1 for those that go with a rare label."""
        component = _components(alike.by_kind()[kind], examples.groups)
        free = np.flatnonzero(~np.isin(component, component[is_rare[label_ids]]))
        side = np.full(len(label_ids), -1, np.intp)
        of_common = [labels[label_id] for label_id in common.tolist()]
        side[free] = _sides(examples, component[free], of_common, common_ids[label_ids[free]], fractions, names, seed)
        return side

    def unfairness(side: Indices) -> float:
        return _unfairness(side[side >= 0], common_ids[label_ids[side >= 0]], fractions)

    kind, side = _widest_fair(sides, unfairness)
    n_rows = np.bincount(label_ids, minlength=len(labels))
    quotas = _quotas(n_rows[common], fractions)
    if rare == "first":
        side[side < 0] = 0
        quotas[0, 0] += n_rows[is_rare].sum()
    return Cut(
        [np.flatnonzero(side == s) for s in range(len(names))],
        np.flatnonzero(side < 0),
        {labels[label_id]: int(n_rows[label_id]) for label_id in np.flatnonzero(is_rare).tolist()},
        (*_repeat_notes(alike, kind), *_size_notes(side, names, quotas)),
    )


def _rare_labels(component: Indices, label_ids: Indices, n_sides: int) -> NDArray[np.bool_]:
    """Which labels [K] have too few components for every side, without those that rows of other rare labels are in.

    None, so that splitting says what is wrong, where these are most rows, or where a label has enough rows and more
    than a few but too few different texts or groups.
    """
    n_rows = np.bincount(label_ids)
    rare = np.zeros(len(n_rows), np.bool_)
    while True:
        free = ~np.isin(component, component[rare[label_ids]])
        table = _ComponentTable.of(component[free], label_ids[free], len(n_rows))
        too_few = table.per_label < n_sides
        if (too_few == rare).all():
            break
        rare = too_few
    too_large = rare & (n_rows >= n_sides) & (n_rows > LARGEST_IN_TRAIN * len(label_ids))
    return rare if 2 * n_rows[rare].sum() <= len(label_ids) and not too_large.any() else np.zeros_like(rare)


def _widest_fair(sides: Callable[[str], Indices], unfairness: Callable[[Indices], float]) -> tuple[str, Indices]:
    """The widest meaning of "one text" whose splits are fair, or no less so than those of equality; and the splits."""
    found: dict[str, Indices] = {}
    for kind in WIDEST_FIRST[:-1]:
        with suppress(DataError):
            found[kind] = sides(kind)
            if unfairness(found[kind]) <= 0:
                return kind, found[kind]
    found[WIDEST_FIRST[-1]] = sides(WIDEST_FIRST[-1])
    limit = unfairness(found[WIDEST_FIRST[-1]])
    return next((kind, side) for kind, side in found.items() if unfairness(side) <= limit)


def _unfairness(side: Indices, label_ids: Indices, fractions: Sequence[float]) -> float:
    """By how many rows a label misses its quota in a split, at most, beyond one row and a tenth of its rows."""
    quotas = _quotas(np.bincount(label_ids), fractions)
    n_rows = np.bincount(label_ids * quotas.shape[1] + side, minlength=quotas.size).reshape(quotas.shape)
    return float((abs(n_rows - quotas) - 1 - 0.1 * quotas.sum(axis=1, keepdims=True)).max())


def _sides(
    examples: Examples,
    component: Indices,
    labels: list[str],
    label_ids: Indices,
    fractions: Sequence[float],
    names: Sequence[str],
    seed: int,
) -> Indices:
    """The split of each row, (N,), with every label in each.

    Raises:
        DataError: a label that has too few components, or that could not be put everywhere.
    """
    table = _ComponentTable.of(component, label_ids, len(labels))
    _refuse_rare(examples, labels, label_ids, table, names)
    quotas = _quotas(np.bincount(label_ids, minlength=len(labels)), fractions)
    rng = np.random.default_rng(seed)
    for attempt in range(ATTEMPTS):
        side = _assign(component, label_ids, table, quotas, rng, disorder=attempt)
        n_rows = np.bincount(label_ids * len(names) + side, minlength=quotas.size)
        if n_rows.all():
            return side
    label_id, at = divmod(int(n_rows.argmin()), len(names))
    raise DataError(
        f"label {labels[label_id]!r} of {examples.source or 'the data'} could not be put in the {names[at]} split,"
        " because its rows hang together with those of other labels by text or group; use another --seed or --group,"
        " or give your own splits"
    )


def _assign(
    component: Indices,
    label_ids: Indices,
    table: _ComponentTable,
    quotas: Indices,
    rng: np.random.Generator,
    disorder: int,
) -> Indices:
    """The side of each row, of shape (N,): components of several rows first, then the rows alone."""
    plan = _Plan.of(quotas, table.per_label)
    side = _place_components(table, plan, rng, disorder)[component]
    alone = np.flatnonzero(side < 0)
    side[alone] = _place_alone(label_ids[alone], plan, rng)
    return side


def _components(text_ids: Indices, groups: list[str] | None) -> Indices:
    """The component of each row, (N,): rows that share a text or a group, directly or through others.

    An empty group is no group.
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
class _ComponentTable:
    """How many rows of each label a component has: one entry for each (component, label) that occurs, by component."""

    component: Indices  # (M,)
    label_id: Indices  # (M,)
    n_rows: Indices  # (M,)
    size: Indices  # rows of each component
    per_label: Indices  # (K,): components that have the label

    @classmethod
    def of(cls, component: Indices, label_ids: Indices, n_labels: int) -> _ComponentTable:
        pairs, n_rows = np.unique(component * n_labels + label_ids, return_counts=True)
        label_id = pairs % n_labels
        per_label = np.bincount(label_id, minlength=n_labels)
        return cls(pairs // n_labels, label_id, n_rows.astype(np.intp), np.bincount(component), per_label)


def _refuse_rare(
    examples: Examples, labels: list[str], label_ids: Indices, table: _ComponentTable, names: Sequence[str]
) -> None:
    """Every label needs a component for each split."""
    rare = np.flatnonzero(table.per_label < len(names)).tolist()
    if not rare:
        return
    n_rows = np.bincount(label_ids, minlength=len(labels))
    worst = min(rare, key=lambda label_id: int(n_rows[label_id]))
    count, n_components = int(n_rows[worst]), int(table.per_label[worst])
    found = f"{count} {'row' if count == 1 else 'rows'}"
    if count > n_components:
        found += f" but only {n_components} independent of each other (identical texts or one group count once)"
    n_more = len(rare) - 1
    others = f" (and {n_more} more {'label is' if n_more == 1 else 'labels are'} too rare)" if n_more else ""
    advice = _advice_for_rare(labels, [labels[label_id] for label_id in rare])
    if count >= len(names) > n_components:
        advice = "add other texts of it, or give your own splits"
    raise DataError(
        f"label {labels[worst]!r} of {examples.source or 'the data'} has {found}, too few for one in each of"
        f" {', '.join(names) if len(names) <= 3 else f'{len(names)} parts'}{others}; {advice}"
    )


def _advice_for_rare(labels: Sequence[str], rare: Sequence[str]) -> str:
    """What to do about labels with too few rows; many of them mean another mistake than a few."""
    advice = "add examples of it, or remove or merge the label"
    if 2 * len(rare) <= len(labels):
        return advice
    mark = next((mark for mark in ("|", ";", ",") if sum(mark in label for label in rare) * 2 > len(rare)), None)
    if mark:
        return f"if a row has several labels, parted by {mark!r}, pass --multi-label (--label-separator {mark!r})"
    return f"{advice}; is it the label column (--label)?"


def _quotas(n_rows: Indices, fractions: Sequence[float]) -> Indices:
    """Rows of each label for each side, (K, S): largest remainders, then at least one everywhere.

    >>> _quotas(np.array([10, 3]), (0.7, 0.1, 0.2)).tolist()
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


@dataclass
class _Plan:
    """What is still to be placed. Plain lists: the loop over components reads single numbers."""

    room: list[list[int]]  # [label][side]: rows until the quota; below 0 when a component was too large
    n_components: list[int]  # [label]: components with it that are not placed yet
    lacks: list[set[int]] = field(default_factory=list)  # [label]: sides that have none of it yet

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
        mark = draw * sum(room)
        for side, width in zip(fitting, room, strict=True):
            mark -= width
            if mark < 0:
                return side
        return fitting[-1]

    def place(self, counts: list[tuple[int, int]], side: int) -> None:
        for label, n in counts:
            self.room[label][side] -= n
            self.n_components[label] -= 1
            self.lacks[label].discard(side)


def _place_components(table: _ComponentTable, plan: _Plan, rng: np.random.Generator, disorder: int) -> Indices:
    """The side of each component, -1 for rows alone: largest first, less strictly so with more disorder."""
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


def _place_alone(label_ids: Indices, plan: _Plan, rng: np.random.Generator) -> Indices:
    """The side of each row that is a component of its own: the rows of a label, shuffled, fill its quotas."""
    side = np.empty(len(label_ids), np.intp)
    shuffled = rng.permutation(len(label_ids))
    by_label = shuffled[np.argsort(label_ids[shuffled], kind="stable")]
    ends = np.cumsum(np.bincount(label_ids, minlength=len(plan.room)))
    for label, rows in enumerate(np.split(by_label, ends[:-1])):
        take = _fill(plan.room[label], plan.lacks[label], len(rows))
        side[rows] = np.repeat(np.arange(len(take)), take)
    return side


def _fill(room: list[int], lacks: set[int], n_rows: int) -> list[int]:
    """How many of `n_rows` rows each side takes: its room, less where another side's component was too large.

    >>> _fill([70, 10, 20], {0, 1, 2}, 100), _fill([5, -3, 2], {0, 2}, 4)
    ([70, 10, 20], [2, 0, 2])
    """
    take = [max(0, n) for n in room]
    keep = [int(side in lacks) for side in range(len(room))]
    while (excess := sum(take) - n_rows) > 0:
        side = max(range(len(room)), key=lambda s: (take[s] - keep[s], take[s]))
        take[side] -= min(excess, max(1, take[side] - keep[side]))
    return take


def undersample(examples: Examples, seed: int) -> Examples:
    """Thin every label to the count of the rarest, at random; the order is kept.

    Raises:
        DataError: one label only.
    """
    names, label_ids = number_labels(examples)
    n_each = int(np.bincount(label_ids).min())
    rng = np.random.default_rng(seed)
    kept = [rng.choice(np.flatnonzero(label_ids == at), n_each, replace=False) for at in range(len(names))]
    return examples.take(np.sort(np.concatenate(kept)).tolist())


def check_splits(splits: Splits) -> None:
    """Check that splits belong together: two labels or more in train, and no other labels elsewhere.

    Raises:
        DataError: names the label, the split and a row.
    """
    known = label_names(splits.train)
    there = set(known)
    for name, examples in splits.named().items():
        for at, labels in enumerate(label_sets(examples)):
            if label := next((label for label in labels if label not in there), None):
                raise DataError(
                    f"row {examples.number_of(at)} of {_source(examples, name)} has label {label!r}, which is not"
                    f" one of {one_of(known)} in {_source(splits.train, 'train')}{near_miss(label, known)}; fix the"
                    " row, or add examples of that label to train"
                )


def _source(examples: Examples, name: str) -> str:
    return examples.source or f"the {name} split"


def count_shared_texts(train: Examples, other: Examples) -> int:
    """Rows of `other` whose exact text is also in train."""
    known = set(train.texts)
    return sum(text in known for text in other.texts)
