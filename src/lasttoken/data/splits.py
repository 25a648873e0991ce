"""Splits that share nothing: stratified by label, with texts that are alike and rows of one group on one side.

    rows        components                       quotas of each label          sides
    0 "a" g1 ┐
    1 "a" g2 ┤  nearly one text or one group,    70 % / 10 % / 20 % of its     large components first, each where
    2 "b" g2 ┘  directly or through others       rows, at least one each       its labels still have room, then the
    3 "c"    ─  a row alone                                                    rows alone fill every quota exactly

What is nearly one text is told by likeness.py. Where keeping near-duplicates together leaves no fair split, because
a few templates make up a label, only equal texts are kept together, and a note says so. Chapter 6's own way, which
knows nothing of repeated texts, is in book.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lasttoken.data.files import Examples
from lasttoken.data.labels import natural_order, part_labels
from lasttoken.data.likeness import Likeness, likeness, root
from lasttoken.errors import DataError, SettingsError, one_of

Indices = NDArray[np.intp]

SPLIT_NAMES = ("train", "validation", "test")
ATTEMPTS = 20  # at getting every label into every split; few groups with several labels each may need more than one
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

    def named(self) -> dict[str, Examples]:
        """The splits there are, by name."""
        found = zip(SPLIT_NAMES, (self.train, self.validation, self.test), strict=True)
        return {name: examples for name, examples in found if examples is not None}


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
    return [part_labels(label, examples.separator) for label in labels_of(examples)]


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

    Each label is spread by the fractions to within a row, as far as components allow, and is in every split.
    `notes` say how many rows repeat another's text, and by which meaning texts were kept together.
    The same examples and seed give the same splits.

    Raises:
        DataError: one label only, or one with too few rows or too few independent groups for three splits.
        SettingsError: fractions that leave nothing for a split.
    """
    fractions = (train_fraction, validation_fraction, 1 - train_fraction - validation_fraction)
    if min(fractions) < 1e-9:
        raise SettingsError(
            f"--train-fraction {train_fraction} and --validation-fraction {validation_fraction} leave nothing for one"
            " of train, validation and test; use fractions such as 0.7 and 0.1"
        )
    (train, validation, test), notes = _cut(examples, fractions, SPLIT_NAMES, seed)
    return Splits(train, validation, test, notes)


def cut_validation(train: Examples, fraction: float, seed: int) -> tuple[Examples, Examples]:
    """Cut a validation split of this fraction from train, by the rules of `split_examples`: (train, validation).

    Train's `notes` gain what was found about repeated texts.

    Raises:
        DataError, SettingsError: as `split_examples`.
    """
    if not 0 < fraction < 1:
        raise SettingsError(f"--validation-fraction is {fraction}; it must be above 0 and below 1")
    (kept, validation), notes = _cut(train, (1 - fraction, fraction), SPLIT_NAMES[:2], seed)
    return replace(kept, notes=(*kept.notes, *notes)), validation


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
            names, np.bincount(side, minlength=len(names)).tolist(), quotas.sum(axis=0).tolist(), strict=True
        )
        if abs(n - wanted) > slack
    ]


def cut_folds(examples: Examples, n_folds: int, seed: int) -> list[Indices]:
    """The rows of each of `n_folds` equal parts, by the rules of `split_examples`: no text is in two of them.

    Raises:
        DataError: one label only, or one with too few rows or too few independent groups for so many folds.
        SettingsError: fewer than two folds.
    """
    if n_folds < 2:
        raise SettingsError(f"--folds is {n_folds}; it must be at least 2")
    names = [f"fold {fold}" for fold in range(1, n_folds + 1)]
    return cut_rows(examples, [1 / n_folds] * n_folds, names, seed)[0]


def _cut(
    examples: Examples, fractions: Sequence[float], names: Sequence[str], seed: int
) -> tuple[list[Examples], tuple[str, ...]]:
    parts, notes = cut_rows(examples, fractions, names, seed)
    return [examples.take(rows.tolist()) for rows in parts], notes


def cut_rows(
    examples: Examples, fractions: Sequence[float], names: Sequence[str], seed: int
) -> tuple[list[Indices], tuple[str, ...]]:
    """The rows of each side, and notes: by the widest meaning of "one text" that leaves fair splits, else by equality.

    Raises:
        DataError: one label only, or one with too few rows or too few independent groups for the sides.
    """
    labels, label_ids = number_labels(examples)
    alike = likeness(examples.texts)

    def sides(kind: str) -> Indices:
        component = _components(alike.by_kind()[kind], examples.groups)
        return _sides(examples, component, labels, label_ids, fractions, names, seed)

    kind, side = _widest_fair(sides, lambda side: _unfairness(side, label_ids, fractions))
    notes = (*_repeat_notes(alike, kind), *_size_notes(side, names, _quotas(np.bincount(label_ids), fractions)))
    return [np.flatnonzero(side == s) for s in range(len(names))], notes


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
    quotas = _quotas(np.bincount(label_ids), fractions)
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
    n_rows = np.bincount(label_ids)
    worst = min(rare, key=lambda label_id: int(n_rows[label_id]))
    count, n_components = int(n_rows[worst]), int(table.per_label[worst])
    found = f"{count} {'row' if count == 1 else 'rows'}"
    if count > n_components:
        found += f" but only {n_components} independent of each other (identical texts or one group count once)"
    n_more = len(rare) - 1
    others = f" (and {n_more} more {'label is' if n_more == 1 else 'labels are'} too rare)" if n_more else ""
    advice = _advice_for_rare(labels, rare)
    if count >= len(names) > n_components:
        advice = "add other texts of it, or give your own splits"
    raise DataError(
        f"label {labels[worst]!r} of {examples.source or 'the data'} has {found}, too few for one in each of"
        f" {', '.join(names) if len(names) <= 3 else f'{len(names)} parts'}{others}; {advice}"
    )


def _advice_for_rare(labels: list[str], rare: list[int]) -> str:
    """What to do about labels with too few rows; many of them mean another mistake than a few."""
    if 2 * len(rare) <= len(labels):
        return "add examples of it, or remove or merge the label"
    mark = next((mark for mark in ("|", ";", ",") if sum(mark in labels[at] for at in rare) * 2 > len(rare)), None)
    if mark:
        return f"if a row has several labels, parted by {mark!r}, pass --multi-label (--label-separator {mark!r})"
    return "add examples of it, or remove or merge the label; is it the label column (--label)?"


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
        for row, labels in enumerate(label_sets(examples), 1):
            if label := next((label for label in labels if label not in there), None):
                raise DataError(
                    f"row {row} of {_source(examples, name)} has label {label!r}, which is not one of {one_of(known)}"
                    f" in {_source(splits.train, 'train')}; fix the row, or add examples of that label to train"
                )


def _source(examples: Examples, name: str) -> str:
    return examples.source or f"the {name} split"


def count_shared_texts(train: Examples, other: Examples) -> int:
    """Rows of `other` whose exact text is also in train."""
    known = set(train.texts)
    return sum(text in known for text in other.texts)
