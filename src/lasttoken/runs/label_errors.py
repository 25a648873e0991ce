"""Likely label errors of a data set: every row is scored by a classifier that was trained without it.

rows ─► trunk, once ─► k folds ─► out-of-fold probabilities [N, K] ─► confident learning ─► ranked rows, as CSV

Rows of a label with fewer rows than folds are in the train split of every fold, so they are not scored.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.config import Settings
from lasttoken.core.device import Device
from lasttoken.core.process import flush_denormals
from lasttoken.core.progress import Reporter
from lasttoken.core.storage import write_text
from lasttoken.data.cleaning import MOST_NAMED, clean_labels
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.folders import read_splits
from lasttoken.data.label_tables import labels_of
from lasttoken.data.labels import with_row_counts
from lasttoken.data.layouts import read_layout
from lasttoken.data.splitting.cutting import cut_validation
from lasttoken.data.splitting.splits import Splits
from lasttoken.data.tables.cells import csv_line
from lasttoken.data.tables.options import ReadOptions
from lasttoken.evaluation.label_errors import Suspects, rank_suspects
from lasttoken.runs.choice import Plan, plan_training
from lasttoken.runs.session import open_device, open_session
from lasttoken.training.repeater import Repeater, out_of_fold


@dataclass(frozen=True)
class Suspect:
    """A row, and how wrong its label looks."""

    row: int  # in the data, from 1
    text: str
    label: str
    suggested: str | None  # None: the row was not scored
    margin: float | None  # p(label) - the largest other p, from -1 to 1


@flush_denormals()
def find_suspects(
    data: Path, settings: Settings, n_folds: int, offline: bool, reporter: Reporter
) -> tuple[list[Suspect], int]:
    """All rows of a file (or of a folder's train split), the most suspect first, and the estimated number of errors.

    Rows that were not scored come last; a sentence says which.

    Raises:
        UserError, FailedError: see `train_run`.
    """
    rows = _read(data, settings)
    cleaned = clean_labels(Splits(rows, None, None, rows.notes), settings.min_rows)
    examples = cleaned.train
    for note in cleaned.notes:
        reporter.say(note)
    device = open_device(settings, reporter)
    plan = _plan(examples, settings, device, offline, reporter)
    session = open_session(
        Splits(examples, None, None, validation_is_cut=True),
        plan.linear or plan.main,
        device,
        offline=offline,
        reporter=reporter,
    )
    repeater = Repeater(session.prepared, session.features(reporter))
    with reporter.bar("folds", n_folds) as advance:
        log_probs = out_of_fold(repeater, session.settings, n_folds, lambda done: advance(done, ""))
    scored = np.flatnonzero(~np.isnan(log_probs).any(1))
    if len(scored) < len(examples):
        reporter.say(_about_unscored(examples, scored, n_folds))
    ranking = rank_suspects(log_probs[scored], repeater.truth[scored])
    return _suspects(examples, session.prepared.labels, scored, ranking), ranking.n_estimated


def _plan(examples: Examples, settings: Settings, device: Device, offline: bool, reporter: Reporter) -> Plan:
    """What is trained on each fold: depth and pooling are chosen once, on all rows; method auto is linear here."""
    if not settings.leaves_choices:
        return plan_training(Splits(examples, None, None), settings, device, offline=offline)
    cut = replace(cut_validation(examples, settings.validation_fraction, settings.seed), validation_is_cut=True)
    plan = plan_training(cut, settings, device, offline=offline, reporter=reporter)
    reporter.say(f"depth {(plan.linear or plan.main).depth} and pooling {(plan.linear or plan.main).read} were chosen")
    return plan


def _about_unscored(examples: Examples, scored: NDArray[np.intp], n_folds: int) -> str:
    rest = np.setdiff1d(np.arange(len(examples)), scored).tolist()
    counts = Counter(labels_of(examples)[row] for row in rest)
    named, n_others = dict(counts.most_common(MOST_NAMED)), len(counts) - MOST_NAMED
    return (
        f"{len(rest):,} rows are not judged, because their labels have too few rows or different texts for {n_folds} "
        f"folds: {with_row_counts(named)}{f' and {n_others:,} more labels' if n_others > 0 else ''}; they are at the "
        "end of the file without a rank (with --folds 2, labels with at least two rows are judged)"
    )


def _read(data: Path, settings: Settings) -> Examples:
    if data.is_dir() and (layout := read_layout(data, settings.columns, {"options": ReadOptions.of(settings)})):
        return layout.train if isinstance(layout, Splits) else layout
    if data.is_dir():
        return read_splits(data, settings.columns, options=ReadOptions.of(settings)).train
    return read_examples(data, settings.columns, options=ReadOptions.of(settings))


def _suspects(
    examples: Examples, labels: tuple[str, ...], scored: NDArray[np.intp], ranking: Suspects
) -> list[Suspect]:
    """The scored rows in the order of their ranking, and all others behind them."""
    row_labels = labels_of(examples)

    def suspect(row: int, suggested: str | None, margin: float | None) -> Suspect:
        return Suspect(examples.number_of(row), examples.texts[row], row_labels[row], suggested, margin)

    ranked = [
        suspect(int(scored[place]), labels[ranking.suggested[place]], float(ranking.margins[place]))
        for place in ranking.order.tolist()
    ]
    rest = np.setdiff1d(np.arange(len(examples)), scored).tolist()
    return ranked + [suspect(row, None, None) for row in rest]


def write_suspects(path: Path, suspects: list[Suspect]) -> None:
    """Write a CSV to review, the most suspect row first; rows that were not scored have no rank and no suggestion.

    Raises:
        StorageError: no permission, or a full disk.
    """
    lines = [("rank", "row", "label", "suggested", "margin", "text")]
    lines += [
        (str(rank), str(suspect.row), suspect.label, suspect.suggested or "", f"{suspect.margin:.4f}", suspect.text)
        if suspect.margin is not None
        else ("", str(suspect.row), suspect.label, "", "", suspect.text)
        for rank, suspect in enumerate(suspects, 1)
    ]
    write_text(path, "".join(map(csv_line, lines)))
