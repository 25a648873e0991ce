"""The order of the examples: that of torch's DataLoader after torch.manual_seed(seed), from a private generator.

Chapter 6 seeds torch's global generator, from which its DataLoaders draw: each pass over a loader draws one number (the
loader's base seed), and a shuffled pass draws another, which seeds the permutation. The same draws in the same order
from a private generator give the chapter's batches. The global generator stays untouched, and the state can be saved.
tests/training/test_order.py compares with DataLoader.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Order:
    """A stream of passes over splits."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator()
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Start again from a seed, as torch.manual_seed does with the global generator."""
        self._generator.manual_seed(seed)

    def _draw(self) -> int:
        return int(torch.empty((), dtype=torch.int64).random_(generator=self._generator).item())

    def in_order(self, n: int) -> list[int]:
        """The rows of a pass over n rows without shuffling."""
        self._draw()
        return list(range(n))

    def shuffled(self, n: int) -> list[int]:
        """The rows of a shuffled pass over n rows."""
        self._draw()
        permutation = torch.randperm(n, generator=torch.Generator().manual_seed(self._draw()))
        return permutation.tolist()

    @property
    def state(self) -> Tensor:
        """The state of the generator, [bytes] uint8, for `restore`."""
        return self._generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Continue from a saved `state`."""
        self._generator.set_state(state)


def first_batches(n: int, n_batches: int, batch_size: int, seed: int | None = None) -> list[int]:
    """The rows of the first batches of a loader over n rows, as chapter 6's `num_batches` selects them.

    Without a seed the rows are in order and the last batch may be incomplete, as in its validation and test loaders.
    With a seed they are shuffled and an incomplete batch is dropped, as in its train loader after
    torch.manual_seed(seed).

    >>> first_batches(5, 2, 2), first_batches(5, 9, 2), len(first_batches(5, 9, 2, seed=123))
    ([0, 1, 2, 3], [0, 1, 2, 3, 4], 4)
    """
    rows = list(range(n)) if seed is None else Order(seed).shuffled(n)
    return [row for batch in batches(rows, batch_size, drop_last=seed is not None)[:n_batches] for row in batch]


def batches(rows: list[int], batch_size: int, drop_last: bool = False) -> list[list[int]]:
    """Rows in batches; `drop_last` leaves out an incomplete one.

    >>> batches([4, 0, 3, 1, 2], 2), batches([4, 0, 3, 1, 2], 2, drop_last=True)
    ([[4, 0], [3, 1], [2]], [[4, 0], [3, 1]])
    """
    stop = len(rows) - len(rows) % batch_size if drop_last else len(rows)
    return [rows[start : min(start + batch_size, stop)] for start in range(0, stop, batch_size)]
