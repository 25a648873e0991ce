"""Gradient accumulation: the batches of a pass, and how much each counts in the update that follows.

    rows of a pass ─► batches of b rows ─► groups of n batches ─► Σ share · mean loss of a batch ─► one update a group

    shares      of a group of n batches           of the last group of a pass, with fewer
    even        its rows / the group's rows       the same: the update has the mean loss of its rows
    book        1/n                               1/n: the update is that much smaller, as in chapter 6's script

With even shares n batches of b rows are one batch of n · b rows, to rounding. Shares are by weight instead of rows
where a loss is a weighted mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MicroBatch:
    """One batch: one forward and one backward pass."""

    rows: list[int]
    share: float  # of its loss in the loss of the update
    starts: bool  # whether it is the first since the last update
    updates: bool  # whether an update follows


def micro_batches(
    batches: Sequence[list[int]],
    accumulate: int,
    weight_of: Callable[[list[int]], float] = len,
    fixed_shares: bool = False,
) -> list[MicroBatch]:
    """The batches of a pass in groups of `accumulate`; `weight_of` is what rows weigh in the mean of a loss.

    >>> [(each.share, each.updates) for each in micro_batches([[0, 1], [2, 3], [4]], 2)]
    [(0.5, False), (0.5, True), (1.0, True)]
    >>> [each.share for each in micro_batches([[0, 1], [2, 3], [4]], 2, fixed_shares=True)]
    [0.5, 0.5, 0.5]
    """
    found = []
    for start in range(0, len(batches), accumulate):
        group = batches[start : start + accumulate]
        weights = [1.0] * len(group) if fixed_shares else [weight_of(rows) for rows in group]
        total = accumulate if fixed_shares else sum(weights)
        found += [
            MicroBatch(rows, weight / total, starts=place == 0, updates=place == len(group) - 1)
            for place, (rows, weight) in enumerate(zip(group, weights, strict=True))
        ]
    return found


def n_updates(n_batches: int, accumulate: int) -> int:
    """The updates of a pass.

    >>> n_updates(1045, 8)
    131
    """
    return -(-n_batches // accumulate)
