"""The rows that trials fit and score: growing parts of train, or folds where rows are few. Test is never among them.

    many rows    train ─► a part is held out ─► fit to n, 3n, 9n of the others, score the held-out ones each time
    few rows     three folds: fit to two, score the third, one fold after the other

Each step is a chance to end a trial early. Validation is left for the one comparison at the end, unless it was cut from
the same rows and is small: then its rows are among those of the folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lasttoken.data.files import Examples
from lasttoken.data.splitting.cutting import cut_folds, cut_rows
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs.choice import some_rows
from lasttoken.training.held_out import FEW_ROWS, Part
from lasttoken.training.repeater import pooled

N_FOLDS = 3
FOLDED_ROWS = 1_500  # of a pool, up to which rows are held out in folds
HELD_OUT = 400  # rows that are scored where rows are many
FEWEST_ROWS = 32  # of a trial's first step
KEPT = 0.25  # of the trials go on after a step
UNPRUNED = 4  # trials that are finished before any is ended early
GROWTH = 3  # of the rows from one step to the next
FEWEST_IN_FOLDS = 160  # rows that a fold fits, as far as there are so many

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class TrialRows:
    """The rows of all trials."""

    examples: Examples
    steps: tuple[Part, ...]  # rows of `examples`
    in_folds: bool  # then a trial's score is over the rows of all steps; otherwise it is that of the last step
    with_validation: bool  # whether rows of validation are among them

    @property
    def scored(self) -> Rows:
        """The rows whose losses a finished trial knows, in the order of the steps."""
        return np.concatenate([step.scored for step in self.steps]) if self.in_folds else self.steps[-1].scored


def uses_validation(splits: Splits) -> bool:
    """Whether validation is too small to decide anything by itself, and was cut from the same rows as train."""
    return splits.validation_is_cut and splits.validation is not None and len(splits.validation) < FEW_ROWS


def trial_rows(splits: Splits, n_affordable: int, seed: int) -> TrialRows:
    """The rows of trials that can afford to fit `n_affordable` rows in each step, as a mean.

    Raises:
        DataError: the rows cannot be divided, see `cut_rows`.
    """
    with_validation = uses_validation(splits)
    named = splits.named()
    pool = pooled([named["train"], named["validation"]]) if with_validation else splits.train
    in_folds = len(pool) <= FOLDED_ROWS
    steps = _folds(pool, n_affordable, seed) if in_folds else _growing(pool, n_affordable, seed)
    needed = np.unique(np.concatenate([np.concatenate([step.fitted, step.scored]) for step in steps]))
    places = tuple(Part(np.searchsorted(needed, s.fitted), np.searchsorted(needed, s.scored)) for s in steps)
    return TrialRows(pool.take(needed.tolist()), places, in_folds, with_validation)


def _folds(pool: Examples, n_affordable: int, seed: int) -> list[Part]:
    rows, n_fitted = np.arange(len(pool), dtype=np.int64), max(n_affordable, FEWEST_IN_FOLDS)
    sides = [side for side in cut_folds(pool, N_FOLDS, seed).sides if len(side)]
    return [Part(_drawn(pool, np.setdiff1d(rows, side), n_fitted, seed), side.astype(np.int64)) for side in sides]


def _growing(pool: Examples, n_affordable: int, seed: int) -> list[Part]:
    share = HELD_OUT / len(pool)
    rest, held_out = (
        side.astype(np.int64) for side in cut_rows(pool, (1 - share, share), ("train", "held"), seed).sides
    )
    sizes, n_rows = list[int](), max(n_affordable, FEWEST_ROWS)
    while len(sizes) < N_FOLDS and n_rows < len(rest):
        sizes.append(n_rows)
        n_rows *= GROWTH
    return [Part(_drawn(pool, rest, n, seed), held_out) for n in sizes or [len(rest)]]


def _drawn(pool: Examples, rows: Rows, n: int, seed: int) -> Rows:
    """At most about `n` of these rows, every label among them."""
    return rows[some_rows(pool.take(rows.tolist()), n, seed)]


def affordable_rows(work: float, n_trials: int, cost_per_row: float, in_folds: bool) -> int:
    """The rows that a step of a trial can fit if all trials together may cost `work`.

    A quarter of the trials goes on after the first step, and these are good enough to be finished, as a rule. Folds are
    of equal size; otherwise a finished trial fits 1 + 3 + 9 times the rows. The first trials are never ended early.

    >>> affordable_rows(196_000, 40, 10.0, in_folds=False), affordable_rows(196_000, 4, 10.0, in_folds=False)
    (100, 376)
    """
    whole = N_FOLDS if in_folds else 1 + GROWTH + GROWTH**2
    mean, n_whole = 1 + KEPT * (whole - 1), min(UNPRUNED, n_trials)
    return int(work / max(cost_per_row * (mean * (n_trials - n_whole) + whole * n_whole), 1e-9))
