"""Likely label errors of a data set: every row judged by a classifier that was trained without it.

rows ─► trunk, once ─► k folds ─► out-of-fold probabilities [N, K] ─► confident learning ─► rows ranked, as CSV

Rows of a label with fewer rows than folds are trained on in every fold, so none of them is judged.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.config import Settings
from lasttoken.core.process import flush_denormals
from lasttoken.core.progress import Reporter
from lasttoken.core.storage import write_text
from lasttoken.data.cells import csv_line
from lasttoken.data.cleaning import MOST_NAMED, clean_labels
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.folders import read_splits
from lasttoken.data.label_tables import labels_of
from lasttoken.data.labels import with_row_counts
from lasttoken.data.layouts import read_layout
from lasttoken.data.options import ReadOptions
from lasttoken.data.splits import Splits
from lasttoken.evaluation.label_errors import Suspects, rank_suspects
from lasttoken.runs.session import open_device, open_session
from lasttoken.training.repeater import Repeater, out_of_fold


@dataclass(frozen=True)
class Suspect:
    """A row whose label looks wrong; `row` counts from 1, as the data has it."""

    row: int
    text: str
    label: str
    suggested: str | None  # None: the row was not judged
    margin: float | None  # probability of the given label less that of the likeliest other, -1 to 1


@flush_denormals()
def find_suspects(
    data: Path, settings: Settings, n_folds: int, offline: bool, reporter: Reporter
) -> tuple[list[Suspect], int]:
    """All rows of a file (or of a folder's train split), the most suspect first, and how many are estimated wrong.

    Rows that were not judged come last; a sentence says which.

    Raises:
        UserError, FailedError: as a training.
    """
    read = _read(data, settings)
    cleaned = clean_labels(Splits(read, None, None, read.notes), settings.min_rows)
    examples = cleaned.train
    for note in cleaned.notes:
        reporter.say(note)
    device = open_device(settings, reporter)
    session = open_session(Splits(examples, None, None), settings, device, offline=offline, reporter=reporter)
    repeater = Repeater(session.prepared, session.features(reporter))
    with reporter.bar("folds", n_folds) as advance:
        log_probs = out_of_fold(repeater, session.settings, n_folds, lambda done: advance(done, ""))
    judged = np.flatnonzero(~np.isnan(log_probs).any(1))
    if len(judged) < len(examples):
        reporter.say(_not_judged(examples, judged, n_folds))
    found = rank_suspects(log_probs[judged], repeater.truth[judged])
    return _ranked(examples, session.prepared.labels, judged, found), found.n_estimated


def _not_judged(examples: Examples, judged: NDArray[np.intp], n_folds: int) -> str:
    rest = np.setdiff1d(np.arange(len(examples)), judged).tolist()
    counts = Counter(labels_of(examples)[at] for at in rest)
    named, more = dict(counts.most_common(MOST_NAMED)), len(counts) - MOST_NAMED
    return (
        f"{len(rest):,} rows are not judged, because their labels have too few rows or different texts for {n_folds} "
        f"folds: {with_row_counts(named)}{f' and {more:,} more labels' if more > 0 else ''}; they are at the end of "
        "the file without a rank (--folds 2 judges labels of two rows and more)"
    )


def _read(data: Path, settings: Settings) -> Examples:
    if data.is_dir() and (layout := read_layout(data, settings.columns, {"options": ReadOptions.of(settings)})):
        return layout.train if isinstance(layout, Splits) else layout
    if data.is_dir():
        return read_splits(data, settings.columns, options=ReadOptions.of(settings)).train
    return read_examples(data, settings.columns, options=ReadOptions.of(settings))


def _ranked(examples: Examples, labels: tuple[str, ...], judged: NDArray[np.intp], found: Suspects) -> list[Suspect]:
    """`judged` are the rows that `found` is about; all others follow them."""
    given = labels_of(examples)

    def suspect(row: int, suggested: str | None, margin: float | None) -> Suspect:
        return Suspect(examples.number_of(row), examples.texts[row], given[row], suggested, margin)

    ranked = [
        suspect(int(judged[at]), labels[found.suggested[at]], float(found.margins[at])) for at in found.order.tolist()
    ]
    rest = np.setdiff1d(np.arange(len(examples)), judged).tolist()
    return ranked + [suspect(row, None, None) for row in rest]


def write_suspects(path: Path, suspects: list[Suspect]) -> None:
    """A CSV to review, the most suspect row first; rank, suggested and margin are empty where a row was not judged.

    Raises:
        StorageError: no permission, or a full disk.
    """
    lines = [("rank", "row", "label", "suggested", "margin", "text")]
    lines += [
        (str(rank), str(one.row), one.label, one.suggested or "", f"{one.margin:.4f}", one.text)
        if one.margin is not None
        else ("", str(one.row), one.label, "", "", one.text)
        for rank, one in enumerate(suspects, 1)
    ]
    write_text(path, "".join(map(csv_line, lines)))
