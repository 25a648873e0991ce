"""Examples are cut into splits or folds that share no text and no group, stratified by label.

    rows        components                       quotas of each label          sides
    0 "a" g1 ┐
    1 "a" g2 ┤  nearly one text or one group,    70 % / 10 % / 20 % of its     large components first, each where
    2 "b" g2 ┘  directly or through others       rows, at least one each       its labels still have room, then the
    3 "c"    ─  a row alone                                                    rows alone fill every quota exactly

near_duplicates.py says which texts are nearly equal, placing.py puts components on sides. Where keeping near-duplicates
together leaves no fair split, because a few templates make up a label, only equal texts are kept together, and a note
says so. Labels with too few rows for every side stay in train, all rows of their components with them. The book's own
way to split, which does not look for repeated texts, is in book.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.errors import DataError, SettingsError
from lasttoken.data.files import Examples
from lasttoken.data.label_tables import label_counts, number_labels
from lasttoken.data.labels import with_row_counts
from lasttoken.data.splitting.near_duplicates import Duplicates, find_duplicates
from lasttoken.data.splitting.placing import ComponentTable, advice_for_rare, components_of, place_rows, quotas_of
from lasttoken.data.splitting.splits import SPLIT_NAMES, Splits

Indices = NDArray[np.intp]
MOST_NAMED = 8  # labels listed in a sentence
LARGEST_IN_TRAIN = 0.05  # fraction of all rows up to which a label with enough rows but few texts stays in train
WIDEST_FIRST = ("near", "normalised", "exact")  # kinds of duplicates, see near_duplicates.py
KEPT_TOGETHER = {
    "near": "texts that are nearly equal are kept in one split",
    "normalised": "texts that differ only by case, digits or punctuation are kept in one split, but not all texts"
    " that are nearly equal, because that would leave no fair split: the metrics may be optimistic",
    "exact": "only identical texts are kept in one split, because keeping all nearly equal texts together would leave"
    " no fair split: the metrics may be optimistic",
}


@dataclass(frozen=True)
class Cut:
    """Rows cut into sides (splits or folds)."""

    sides: list[Indices]  # the rows of each side, in the file's order
    apart: Indices  # rows on no side
    rare: dict[str, int]  # labels with too few rows for every side, and how many rows they have
    notes: tuple[str, ...]


def split_examples(examples: Examples, train_fraction: float, validation_fraction: float, seed: int) -> Splits:
    """Cut examples into train, validation and test (the rest), rows in the file's order.

    Each label is divided by the fractions to within a row, as far as components allow, and is in every split; the rows
    of labels with too few rows for that stay in train. `notes` say so, how many rows repeat another text, and which
    kind of duplicates was kept together. The same examples and seed give the same splits.

    Raises:
        DataError: one label only, too few rows of nearly all labels, or a common label with too few independent groups.
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

    `rare` is "first" or "reject", see `cut_rows`. `notes` describe repeated texts.

    Raises:
        DataError, SettingsError: as `split_examples`.
    """
    if not 0 < fraction < 1:
        raise SettingsError(f"--validation-fraction is {fraction}; it must be above 0 and below 1")
    cut = cut_rows(train, (1 - fraction, fraction), SPLIT_NAMES[:2], seed, rare)
    smaller_train, validation = (train.take(rows.tolist()) for rows in cut.sides)
    return _with_train_only(Splits(smaller_train, validation, None, cut.notes))


def _with_train_only(splits: Splits) -> Splits:
    """The splits, with a note about the labels that are in train only."""
    train, *others = (label_counts(examples) for examples in splits.named().values())
    alone = {label: n for label, n in train.items() if not any(label in counts for counts in others)}
    if not alone:
        return splits
    named, n_unnamed = dict(list(alone.items())[:MOST_NAMED]), len(alone) - MOST_NAMED
    unnamed = f" and {n_unnamed:,} more" if n_unnamed > 0 else ""
    singular = len(alone) == 1
    note = (
        f"{'label' if singular else 'labels'} {with_row_counts(named)}{unnamed} "
        f"{'has' if singular else 'have'} too few rows for every split and {'is' if singular else 'are'} in train "
        f"only: no metric measures {'it' if singular else 'them'}; add rows, or leave "
        f"{'it' if singular else 'them'} out with --min-rows {max(alone.values()) + 1}"
    )
    if 2 * len(alone) > len(train):
        note += f" (most labels are this rare: {advice_for_rare(list(train), list(alone))})"
    return replace(splits, notes=(*splits.notes, note), facts={**splits.facts, "labels_in_train_only": alone})


def cut_folds(examples: Examples, n_folds: int, seed: int) -> Cut:
    """The rows of each of `n_folds` equal folds, by the rules of `split_examples`: no text is in two folds.

    Rows of a label with too few rows for every fold are in none: they can be trained on in every fold, tested in none.

    Raises:
        DataError: one label only, too few rows of nearly all labels, or a common label with too few independent groups.
        SettingsError: fewer than two folds.
    """
    if n_folds < 2:
        raise SettingsError(f"--folds is {n_folds}; it must be at least 2")
    names = [f"fold {fold}" for fold in range(1, n_folds + 1)]
    return cut_rows(examples, [1 / n_folds] * n_folds, names, seed, "apart")


def cut_rows(
    examples: Examples, fractions: Sequence[float], names: Sequence[str], seed: int, rare: str = "first"
) -> Cut:
    """The rows of each side, and notes. The widest kind of duplicates that leaves fair splits is kept together.

    `rare` says what happens to a label with too few rows or texts for every side: "first" puts all of its rows on the
    first side, "apart" on none, "reject" raises. Rows that share a text or group with these rows go with them.

    Raises:
        DataError: one label only, too few rows of nearly all labels, or a common label with too few independent groups.
    """
    labels, label_ids = number_labels(examples)
    duplicates = find_duplicates(examples.texts)
    is_rare = _rare_labels(components_of(duplicates.exact, examples.groups), label_ids, len(names))
    if rare == "reject":
        is_rare[:] = False
    common = np.flatnonzero(~is_rare)
    common_ids = np.cumsum(~is_rare) - 1  # label_id among the common labels

    def sides(kind: str) -> Indices:
        """The side of each row, -1 for those that go with a rare label."""
        component = components_of(duplicates.by_kind()[kind], examples.groups)
        free = np.flatnonzero(~np.isin(component, component[is_rare[label_ids]]))
        side = np.full(len(label_ids), -1, np.intp)
        common_labels = [labels[label_id] for label_id in common.tolist()]
        side[free] = place_rows(
            examples, component[free], common_labels, common_ids[label_ids[free]], fractions, names, seed
        )
        return side

    def unfairness(side: Indices) -> float:
        return _unfairness(side[side >= 0], common_ids[label_ids[side >= 0]], fractions)

    kind, side = _widest_fair(sides, unfairness)
    n_rows = np.bincount(label_ids, minlength=len(labels))
    quotas = quotas_of(n_rows[common], fractions)
    if rare == "first":
        side[side < 0] = 0
        quotas[0, 0] += n_rows[is_rare].sum()
    return Cut(
        [np.flatnonzero(side == s) for s in range(len(names))],
        np.flatnonzero(side < 0),
        {labels[label_id]: int(n_rows[label_id]) for label_id in np.flatnonzero(is_rare).tolist()},
        (*_repeat_notes(duplicates, kind), *_size_notes(side, names, quotas)),
    )


def _rare_labels(component: Indices, label_ids: Indices, n_sides: int) -> NDArray[np.bool_]:
    """Which labels [K] have too few components for every side; components with a row of a rare label do not count.

    No label is called rare, so that splitting raises an error, where these are most rows, or where a label has many
    rows but too few different texts or groups.
    """
    n_rows = np.bincount(label_ids)
    rare = np.zeros(len(n_rows), np.bool_)
    while True:
        free = ~np.isin(component, component[rare[label_ids]])
        table = ComponentTable.of(component[free], label_ids[free], len(n_rows))
        too_few = table.per_label < n_sides
        if (too_few == rare).all():
            break
        rare = too_few
    too_large = rare & (n_rows >= n_sides) & (n_rows > LARGEST_IN_TRAIN * len(label_ids))
    return rare if 2 * n_rows[rare].sum() <= len(label_ids) and not too_large.any() else np.zeros_like(rare)


def _widest_fair(sides: Callable[[str], Indices], unfairness: Callable[[Indices], float]) -> tuple[str, Indices]:
    """The widest kind of duplicates whose sides are fair, or no less fair than those of exact ones; and the sides."""
    by_kind: dict[str, Indices] = {}
    for kind in WIDEST_FIRST[:-1]:
        with suppress(DataError):
            by_kind[kind] = sides(kind)
            if unfairness(by_kind[kind]) <= 0:
                return kind, by_kind[kind]
    by_kind[WIDEST_FIRST[-1]] = sides(WIDEST_FIRST[-1])
    limit = unfairness(by_kind[WIDEST_FIRST[-1]])
    return next((kind, side) for kind, side in by_kind.items() if unfairness(side) <= limit)


def _unfairness(side: Indices, label_ids: Indices, fractions: Sequence[float]) -> float:
    """The most rows by which a label misses its quota on a side, beyond one row and a tenth of its rows."""
    quotas = quotas_of(np.bincount(label_ids), fractions)
    n_rows = np.bincount(label_ids * quotas.shape[1] + side, minlength=quotas.size).reshape(quotas.shape)
    return float((abs(n_rows - quotas) - 1 - 0.1 * quotas.sum(axis=1, keepdims=True)).max())


def _repeat_notes(duplicates: Duplicates, kind: str) -> tuple[str, ...]:
    """How many rows repeat an earlier one, and which `kind` of duplicates was kept in one split."""
    rows = np.arange(len(duplicates.exact))
    n_exact, n_near = (int((ids != rows).sum()) for ids in (duplicates.exact, duplicates.near))
    if not n_near:
        return ()
    n_only_near = n_near - n_exact
    exact = f"{n_exact:,} {'row repeats' if n_exact == 1 else 'rows repeat'} the text of another row"
    if not n_only_near:
        return (f"{exact}; identical texts are kept in one split",)
    if not n_exact:
        nearly = f"{n_only_near:,} {'row nearly repeats' if n_only_near == 1 else 'rows nearly repeat'}"
        return (f"{nearly} the text of another row; {KEPT_TOGETHER[kind]}",)
    nearly = f"{n_only_near:,} more nearly {'repeats' if n_only_near == 1 else 'repeat'} one"
    return (f"{exact} and {nearly}; {KEPT_TOGETHER[kind]}",)


def _size_notes(side: Indices, names: Sequence[str], quotas: Indices) -> list[str]:
    """Sentences about splits that large components made larger or smaller than requested, beyond rounding."""
    n_rows, slack = len(side), max(0.02 * len(side), len(quotas))
    return [
        f"{name} has {n:,} of {n_rows:,} rows instead of {wanted:,}, because rows that share a text or a"
        " group, directly or through other rows, stay in one split"
        for name, n, wanted in zip(
            names, np.bincount(side[side >= 0], minlength=len(names)).tolist(), quotas.sum(axis=0).tolist(), strict=True
        )
        if abs(n - wanted) > slack
    ]
