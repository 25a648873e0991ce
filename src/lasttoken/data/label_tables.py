"""The labels of examples: listed, counted in natural order, and as label_ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.errors import DataError
from lasttoken.data.files import Examples
from lasttoken.data.labels import natural_order, split_labels

Indices = NDArray[np.intp]


def labels_of(examples: Examples) -> list[str]:
    """The labels of labelled examples.

    Raises:
        DataError: there are none.
    """
    if examples.labels is None:
        raise DataError(f"{examples.source or 'the examples'} have no labels; name their column with --label")
    return examples.labels


def label_sets(examples: Examples) -> list[tuple[str, ...]]:
    """The labels of each example; exactly one without a separator, any number with one.

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
        DataError: fewer than two; one is enough where a text may have no label.
    """
    names = list(label_counts(examples))
    if len(names) < (2 if examples.separator is None else 1):
        fact = f"only one label, {names[0]!r}" if names else "no examples" if not len(examples) else "no label"
        raise DataError(
            f"{examples.source or 'the data'} has {fact}; a classifier needs examples of at least two labels"
        )
    return names


def truth_of(examples: Examples, labels: Sequence[str]) -> NDArray[np.int64] | NDArray[np.bool_]:
    """The label_id of each example, [N]; where a text has any number of labels, a bool for each label, [N, K].

    Raises:
        KeyError: a label that is not one of the K.
    """
    ids = {label: label_id for label_id, label in enumerate(labels)}
    if examples.separator is None:
        return np.array([ids[label] for label in labels_of(examples)], dtype=np.int64)
    targets = np.zeros((len(examples), len(labels)), dtype=np.bool_)
    for row, of_row in enumerate(label_sets(examples)):
        targets[row, [ids[label] for label in of_row]] = True
    return targets


def number_labels(examples: Examples) -> tuple[list[str], Indices]:
    """The labels in natural order, and the label_id by which each example is stratified, (N,).

    An example with several labels is stratified by the rarest, one without a label by the commonest label, so that rare
    labels are divided most evenly.
    """
    names = label_names(examples)
    if examples.separator is not None:
        return _rarest_labels(examples)
    ids = {name: label_id for label_id, name in enumerate(names)}
    return names, np.fromiter((ids[label] for label in labels_of(examples)), np.intp, len(examples))


def _rarest_labels(examples: Examples) -> tuple[list[str], Indices]:
    counts = label_counts(examples)
    commonest = max(counts, key=counts.__getitem__)
    rarest = [min(labels, key=counts.__getitem__, default=commonest) for labels in label_sets(examples)]
    names = natural_order(rarest)
    ids = {name: label_id for label_id, name in enumerate(names)}
    return names, np.array([ids[label] for label in rarest], dtype=np.intp)
