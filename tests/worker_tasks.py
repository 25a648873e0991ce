"""Tasks for worker processes that need no classifier."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lasttoken.core.errors import DataError


@dataclass(frozen=True)
class Files:
    """Writes a file for each part up to `n_parts`; worker processes kill themselves on some, once or always."""

    folder: Path
    n_parts: int
    deadly: tuple[int, ...] = ()
    always: bool = False
    faulty: int = -1

    @contextmanager
    def open(self, index: int, n: int) -> Iterator[Callable[[int], int | None]]:
        yield self._write

    def _write(self, number: int) -> int | None:
        if number >= self.n_parts:
            return None
        if number == self.faulty:
            raise DataError(f"part {number} cannot be read")
        died = self.folder / f"died-{number}"
        if number in self.deadly and (self.always or not died.exists()):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (self.folder / f"{number}").write_text(str(os.getpid()))
        return 10 + number


@dataclass(frozen=True)
class Masks:
    """Writes for each part whether Ctrl-C reaches the process; the first part waits for a second process."""

    folder: Path

    @contextmanager
    def open(self, index: int, n: int) -> Iterator[Callable[[int], int | None]]:
        blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        (self.folder / f"worker-{index}").write_text("blocked" if blocked else "open")
        while len(list(self.folder.iterdir())) < n:
            time.sleep(0.01)
        yield lambda number: 1
