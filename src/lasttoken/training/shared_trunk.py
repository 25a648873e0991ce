"""A trunk that several processes run over the same texts: each takes every n-th batch.

    batches by length   0 1 2 3 4 5 …
    rank 0              0   2   4        its features and the others' ─► one file of the cache, or rank 0's memory
    rank 1                1   3   5

The batches are those of one process, so the features are the same bytes for any number of processes. A process writes
into the file that rank 0 has begun, where it sees it; a process of another machine sends its features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.classifier.encoding import Encoded, batches_by_length
from lasttoken.core.device import Device
from lasttoken.core.errors import StorageError
from lasttoken.core.team import Message, Team

Rows = NDArray[np.int64]
Place = Callable[[Rows, Tensor], None]  # called with the texts of a batch and their features
Progress = Callable[[int], None]  # called with the number of tokens done


@dataclass(frozen=True)
class TrunkWork:
    """What is computed for each batch of texts, and where it goes."""

    encoded: Encoded
    device: Device
    token_budget: int  # of a batch
    compute: Callable[[Rows], Tensor]
    place: Place

    def batches(self) -> list[Rows]:
        """The texts of each batch; they do not depend on the number of processes."""
        return batches_by_length(self.encoded.lengths, self.token_budget)

    def run(self, batches: Sequence[Rows], progress: Progress | None = None) -> None:
        """Compute batches and place them."""
        for rows, block in self.device.run(self.compute, batches):
            self.place(rows, block)
            if progress:
                progress(int(self.encoded.lengths[rows].sum()))


class SharedTrunk:
    """Rank 0's side: the classifier of a session, which every process has."""

    def __init__(self, team: Team, number: int) -> None:
        """`number`: of the classifier among those that the team has opened."""
        self.team, self.number = team, number

    def run(self, work: TrunkWork, facts: dict[str, Any], path: Path | None, progress: Progress | None) -> None:
        """Compute all batches together. `path`: the file that `work.place` writes; None: it writes into memory.

        Raises:
            StorageError: a process could not write its features; all have finished nevertheless.
            RankError: a process has ended.
        """
        encoded, team = work.encoded, self.team
        batches = work.batches()
        facts = {**facts, "classifier": self.number, "budget": work.token_budget, "path": str(path) if path else None}
        with team.work():
            team.send("trunk", facts, {"token_ids": encoded.token_ids, "lengths": encoded.lengths})
            is_seen = team.all_agree(path is not None)
            fault: StorageError | OSError | None = None
            try:
                self._own(work, batches, progress)
            except (StorageError, OSError) as error:
                fault = error
            if is_seen:
                everywhere = team.all_agree(fault is None)
                fault = fault or (None if everywhere else StorageError(f"another process could not write {path}"))
            else:
                fault = self._receive(work, batches, fault)
        if fault is not None:
            raise fault

    def _own(self, work: TrunkWork, batches: list[Rows], progress: Progress | None) -> None:
        lengths, size = work.encoded.lengths, self.team.size
        rounds = iter(
            [int(lengths[np.concatenate(batches[at : at + size])].sum()) for at in range(0, len(batches), size)]
        )

        def advance(_n_tokens: int) -> None:  # the others take about as long for their batches
            self.team.check()
            if progress:
                progress(next(rounds))

        work.run(batches[::size], advance)

    def _receive(
        self, work: TrunkWork, batches: list[Rows], fault: StorageError | OSError | None
    ) -> StorageError | OSError | None:
        for number in range(1, self.team.size):
            for rows in batches[number :: self.team.size]:
                block = torch.from_numpy(self.team.receive_array(number))
                try:
                    if fault is None:
                        work.place(rows, block)
                except (StorageError, OSError) as error:
                    fault = error
        return fault


def share_trunk(
    team: Team, message: Message, make: Callable[[Encoded, Callable[[int, Tensor], None]], TrunkWork]
) -> None:
    """Another process's side of `SharedTrunk.run`; `make(encoded, put)` gives the same work as rank 0's."""
    from lasttoken.training.feature_cache import FeatureWriter

    encoded = encoded_of(message.arrays["token_ids"], message.arrays["lengths"])
    path, writer, is_written = message.facts["path"], None, True
    if path is not None and Path(path).is_file():
        writer = FeatureWriter(Path(path), message.facts["shape"][1])
    if team.all_agree(writer is not None):
        assert writer is not None
        work = make(encoded, writer)
        try:
            work.run(work.batches()[team.rank.number :: team.size])
            writer.close()
        except (StorageError, OSError):
            is_written = False
        team.all_agree(is_written)
        return
    work, kept = make(encoded, lambda first_row, block: None), list[NDArray[Any]]()
    for _, block in work.device.run(work.compute, work.batches()[team.rank.number :: team.size]):
        kept.append(block.contiguous().numpy())
    for array in kept:
        team.send_array(array)


def encoded_of(token_ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> Encoded:
    """Texts of which only the tokens are known."""
    return Encoded(token_ids, lengths, np.zeros(len(lengths), dtype=np.bool_), 0)
