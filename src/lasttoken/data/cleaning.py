"""Labels are cleaned before rows are split: one spelling of each label, and no rows of labels that are too rare.

"kitchen" 60, "kitchen " 2, "Kitchen" 9   ──unify_labels──►   "kitchen" 62, "Kitchen" 9, and a sentence for each merge
"kitchen" 62, "kitchn" 1, --min-rows 3    ──leave_out_rare─►  "kitchen" 62, and a sentence about the row left out
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from lasttoken.core.errors import DataError
from lasttoken.data.files import Examples
from lasttoken.data.label_tables import label_counts, label_sets
from lasttoken.data.labels import merges_of, natural_order, with_row_counts
from lasttoken.data.splitting.splits import Splits

MOST_NAMED = 8  # labels listed in a sentence


def clean_labels(splits: Splits, min_rows: int) -> Splits:
    """`unify_labels`, then `leave_out_rare`."""
    return leave_out_rare(unify_labels(splits), min_rows)


def unify_labels(splits: Splits) -> Splits:
    """The splits with one spelling of each label, the commonest in train; `notes` say which spellings were merged.

    Raises:
        DataError: a split without labels.
    """
    named = splits.named()
    others = (examples for name, examples in named.items() if name != "train")
    merges = merges_of(_counts([splits.train]), _counts(others))
    if not merges:
        return splits
    spelled = {spelling: merge.label for merge in merges for spelling in merge.spellings}
    unified = {name: _respelled(examples, spelled) for name, examples in named.items()}
    notes = (*splits.notes, *(merge.sentence() for merge in merges))
    facts = {**splits.facts, "merged_labels": [merge.to_json() for merge in merges]}
    return replace(splits.with_examples(unified), notes=notes, facts=facts)


def _counts(parts: Iterable[Examples]) -> Mapping[str, int]:
    return Counter(label for examples in parts for labels in label_sets(examples) for label in labels)


def _respelled(examples: Examples, spelled: Mapping[str, str]) -> Examples:
    if examples.separator is None:
        return replace(examples, labels=[spelled.get(label, label) for label in examples.labels or []])
    separator = examples.separator
    sets = ({spelled.get(label, label) for label in labels} for labels in label_sets(examples))
    return replace(examples, labels=[separator.join(natural_order(labels)) for labels in sets])


def leave_out_rare(splits: Splits, min_rows: int) -> Splits:
    """The splits without the rows of labels that have fewer than `min_rows` rows in train; `notes` name these labels.

    Where a text has any number of labels, a row is left out when one of them is too rare. Leaving rows out makes other
    labels rarer, so this is repeated until no label is too rare.

    Raises:
        DataError: no row is left in train.
    """
    if min_rows <= 1:
        return splits
    rare: dict[str, int] = {}
    train = splits.train
    while too_rare := {label: n for label, n in label_counts(train).items() if n < min_rows}:
        rare |= too_rare
        train = _without(train, too_rare)
    if not rare:
        return splits
    if not len(train):
        raise DataError(
            f"every label of {train.source or 'the data'} has fewer than {min_rows} rows, so --min-rows {min_rows} "
            "leaves no rows; give a smaller number, or name another column with --label"
        )
    without_rare = {name: _without(examples, rare) for name, examples in splits.named().items()}
    n_left_out = sum(map(len, splits.named().values())) - sum(map(len, without_rare.values()))
    named = with_row_counts(dict(list(rare.items())[:MOST_NAMED]))
    unnamed = f" and {len(rare) - MOST_NAMED:,} more" if len(rare) > MOST_NAMED else ""
    note = f"labels with fewer than {min_rows} rows are left out (--min-rows): {named}{unnamed}; {n_left_out:,} rows"
    facts = {**splits.facts, "labels_left_out": rare}
    return replace(splits.with_examples(without_rare), notes=(*splits.notes, note), facts=facts)


def _without(examples: Examples, labels: Mapping[str, int]) -> Examples:
    """The examples that have none of the labels; they keep their row numbers."""
    rows = [row for row, of_row in enumerate(label_sets(examples)) if not any(label in labels for label in of_row)]
    if len(rows) == len(examples):
        return examples
    return replace(examples, numbers=[examples.number_of(row) for row in range(len(examples))]).take(rows)
