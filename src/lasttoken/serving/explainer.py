"""Explanations have a queue and one thread of their own, so that no classification waits behind them.

    request ─► Job ─► queue ─► thread: forward pass, still wanted?, forward pass, still wanted?, … ─► explanation
                      full: QueueFullError           no: the next job

An explanation takes hundreds of forward passes. It ends between two of them when its client has disconnected or its
deadline has passed. On Linux the thread gives way to the others (a higher nice value).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from lasttoken.serving.pending import ClosedError, Pending, QueueFullError, deliver

MAX_WAITING = 16  # explanations
NICENESS = 10  # of 19
FIRST_S = 1.0  # estimated duration of an explanation before one was measured

T = TypeVar("T")
CheckWanted = Callable[[], None]  # raises when the explanation is no longer wanted


class _UnwantedError(Exception):
    """No client waits for this explanation any more."""


@dataclass(eq=False)
class _Job:
    work: Callable[[CheckWanted], Any]
    pending: Pending

    def check_wanted(self) -> None:
        """End the work if no client waits for it."""
        if not self.pending.is_wanted:
            raise _UnwantedError


class Explainer:
    """The thread that computes explanations, and the queue in front of it."""

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._max_waiting = max_waiting
        self._queue: deque[_Job] = deque()
        self._change = threading.Condition()
        self._closing = False
        self._last_s = FIRST_S  # duration of the last explanation
        self._thread = threading.Thread(target=self._run, name="explanations", daemon=True)

    def start(self) -> None:
        """Begin to take work."""
        self._thread.start()

    async def run(self, work: Callable[[CheckWanted], T], deadline_s: float) -> T:
        """Run `work` in the thread and return its result; `work` calls its argument between its steps.

        Raises:
            QueueFullError, DeadlineExceededError, ClosedError: there is no result.
        """
        job = _Job(work, Pending(deadline_s))
        with self._change:
            if self._closing:
                raise ClosedError
            n_waiting = sum(other.pending.is_wanted for other in self._queue)
            if n_waiting >= self._max_waiting:
                raise QueueFullError(max(1, round(n_waiting * self._last_s)))
            self._queue.append(job)
            self._change.notify()
        try:
            result: T = await job.pending.result()
            return result
        finally:
            with self._change, contextlib.suppress(ValueError):
                self._queue.remove(job)  # if it has not started

    def close(self, wait_s: float = 30.0) -> None:
        """Take no more work, finish what waits, and end the thread."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join(wait_s)

    # ------------------------------------------------------------------ in the thread

    def _run(self) -> None:
        torch.set_num_threads(1)  # applies to this thread
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (job := self._take()) is not None:
            started = time.monotonic()
            try:
                job.check_wanted()
                result: Any = job.work(job.check_wanted)
            except _UnwantedError:
                continue
            except Exception as error:
                result = error
            self._last_s = time.monotonic() - started
            deliver([(job.pending, result)])

    def _take(self) -> _Job | None:
        with self._change:
            while not self._queue:
                if self._closing:
                    return None
                self._change.wait()
            return self._queue.popleft()
