"""A classifier against labelled examples: the truth in its own labels, then the metrics.

A label is matched whatever its spelling, see spelling.py. A column made only of the classifier's label ids ("0", "1",
as chapter 6 writes them) stands for its labels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import DataError, one_of
from lasttoken.core.spelling import label_key, match_label, visible
from lasttoken.data.files import Examples
from lasttoken.data.label_tables import label_sets
from lasttoken.data.labels import natural_order, near_miss
from lasttoken.evaluation.task import SplitMetrics

MOST_NAMED = 8  # spellings in a sentence
Say = Callable[[str], None]


def evaluate(
    predictor: Predictor, examples: Examples, say: Say | None = None, progress: Callable[[int], None] | None = None
) -> SplitMetrics:
    """The metrics of a classifier on labelled examples, which must have its separator where it has one.

    Raises:
        DataError: no labels, or one that the classifier does not know (the row is named).
    """
    config = predictor.classifier.config
    match = match_sets if config.task.multi_label else match_labels
    truth = match(examples, predictor.labels, say)
    log_probs = predictor.log_probs(predictor.encode(examples.texts), progress)
    predicted = config.task.decide(log_probs, config.decision)
    return config.task.metrics(truth, log_probs=log_probs, predicted=predicted, intervals=True)


def match_sets(examples: Examples, labels: Sequence[str], say: Say | None = None) -> NDArray[np.bool_]:
    """Which of the K labels each example has [N, K].

    Raises:
        DataError: see `evaluate`.
    """
    found = label_sets(examples)
    ids = _ids_of({label for of_row in found for label in of_row}, labels, examples, say)
    matched = np.zeros((len(found), len(labels)), dtype=np.bool_)
    for at, of_row in enumerate(found):
        if unknown := next((label for label in of_row if label not in ids), None):
            raise DataError(_unknown(examples.number_of(at), unknown, examples, labels))
        matched[at, [ids[label] for label in of_row]] = True
    return matched


def match_labels(examples: Examples, labels: Sequence[str], say: Say | None = None) -> NDArray[np.int64]:
    """The label_id of each example [N].

    Raises:
        DataError: see `evaluate`.
    """
    if examples.labels is None:
        raise DataError(
            f"{examples.source or 'the examples'} has no labels to evaluate against; name the column with --label"
        )
    found = set(examples.labels)
    ids = _ids_of(found, labels, examples, say)
    by_id = {label: int(key) for label in found if (key := label_key(label)) in map(str, range(len(labels)))}
    if not ids and len(by_id) == len(found):
        pairs = ", ".join(f"{label_id} = {label}" for label_id, label in enumerate(labels))
        (say or _silence)(f"the labels of {examples.source or 'the examples'} are the classifier's label ids: {pairs}")
        ids = by_id
    for at, label in enumerate(examples.labels):
        if label not in ids:
            raise DataError(_unknown(examples.number_of(at), label, examples, labels))
    return np.array([ids[label] for label in examples.labels], dtype=np.int64)


def _ids_of(found: Collection[str], labels: Sequence[str], examples: Examples, say: Say | None) -> dict[str, int]:
    """The label_id of each spelling that is one of the labels; those that are spelled otherwise are said."""
    ids = {label: label_id for label_id, label in enumerate(labels)}
    matched = {label: match for label in natural_order(found) if (match := match_label(label, labels)) is not None}
    other = [f"{visible(label)} as {visible(match)}" for label, match in matched.items() if label != match]
    if other:
        more = f" and {len(other) - MOST_NAMED:,} more" if len(other) > MOST_NAMED else ""
        source = examples.source or "the examples"
        (say or _silence)(f"labels of {source} are spelled otherwise and taken: {', '.join(other[:MOST_NAMED])}{more}")
    return {label: ids[match] for label, match in matched.items()}


def _unknown(row: int, label: str, examples: Examples, labels: Sequence[str]) -> str:
    return (
        f"row {row} of {examples.source or 'the examples'} has label {visible(label)}, which is not one of the "
        f"classifier's {one_of(labels)}{near_miss(label, labels)}; fix the row, or name another column with --label"
    )


def _silence(sentence: str) -> None:
    pass
