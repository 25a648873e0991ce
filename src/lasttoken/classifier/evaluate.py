"""Evaluate a classifier on labelled examples: match their labels with the classifier's, then compute the metrics.

Labels match in spite of small differences in spelling, see core/spelling.py. A column that holds only the classifier's
label ids ("0", "1", as chapter 6 writes them) is read as its labels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import DataError, one_of
from lasttoken.core.spelling import match_label, visible
from lasttoken.data.files import Examples
from lasttoken.data.label_tables import label_sets
from lasttoken.data.labels import natural_order, near_miss
from lasttoken.evaluation.tasks.task import SplitMetrics, Task, Truth

MOST_NAMED = 8  # spellings that a message lists
Say = Callable[[str], None]


def evaluate(
    predictor: Predictor, examples: Examples, say: Say | None = None, progress: Callable[[int], None] | None = None
) -> SplitMetrics:
    """The metrics of a classifier on labelled examples, which must have its label separator if it has one.

    Raises:
        DataError: there are no labels, or the classifier does not know one (the row is named).
    """
    config = predictor.classifier.config
    truth = match_labels(examples, config.task, say)
    log_probs = predictor.log_probs(predictor.encode(examples.texts), progress)
    predicted = config.task.decide(log_probs, config.decision)
    return config.task.metrics(truth, log_probs=log_probs, predicted=predicted, intervals=True)


def match_labels(examples: Examples, task: Task, say: Say | None = None) -> Truth:
    """The truth of N examples: label ids [N], or which of the K labels each example has, bool [N, K].

    Raises:
        DataError: see `evaluate`.
    """
    rows, labels = label_sets(examples), task.labels
    spellings = {label for row_labels in rows for label in row_labels}
    ids = _ids_of(spellings, labels, examples, say)
    if not ids and (spelled_ids := task.read_as_ids(spellings)):
        pairs = ", ".join(f"{label_id} = {label}" for label_id, label in enumerate(labels))
        (say or _silence)(f"the labels of {examples.source or 'the examples'} are the classifier's label ids: {pairs}")
        ids = spelled_ids
    for row, row_labels in enumerate(rows):
        if unknown := [label for label in row_labels if label not in ids]:
            raise DataError(_unknown(examples.number_of(row), unknown[0], examples, labels))
    return task.truth_from_ids([[ids[label] for label in row_labels] for row_labels in rows])


def _ids_of(spellings: Collection[str], labels: Sequence[str], examples: Examples, say: Say | None) -> dict[str, int]:
    """The label_id of each spelling that matches a label; `say` gets those that differ from the label's own."""
    ids = {label: label_id for label_id, label in enumerate(labels)}
    matched = {label: match for label in natural_order(spellings) if (match := match_label(label, labels)) is not None}
    differing = [f"{visible(label)} as {visible(match)}" for label, match in matched.items() if label != match]
    if differing:
        others = f" and {len(differing) - MOST_NAMED:,} more" if len(differing) > MOST_NAMED else ""
        source = examples.source or "the examples"
        pairs = ", ".join(differing[:MOST_NAMED]) + others
        (say or _silence)(f"some labels of {source} are spelled differently and are read as the classifier's: {pairs}")
    return {label: ids[match] for label, match in matched.items()}


def _unknown(row: int, label: str, examples: Examples, labels: Sequence[str]) -> str:
    return (
        f"row {row} of {examples.source or 'the examples'} has label {visible(label)}, which is not one of the "
        f"classifier's {one_of(labels)}{near_miss(label, labels)}; fix the row, or name another column with --label"
    )


def _silence(sentence: str) -> None:
    pass
