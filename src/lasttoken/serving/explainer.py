"""Explanations: a queue and one thread of their own, so that no classification waits behind them.

    request ─► Job ─► queue ─► thread: pass, still wanted?, pass, still wanted?, … ─► explanation
                      full: Busy              no: the next one

An explanation takes hundreds of passes through the network. It ends between two of them when its client has gone or its
deadline has passed. On Linux the thread yields the cores to the others (a higher nice value).
"""

from __future__ import annotations

import asyncio
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

from lasttoken.serving.engine import ClosedError, DeadlineExceededError, QueueFullError

MAX_WAITING = 16  # explanations
NICENESS = 10  # of 19
FIRST_S = 1.0  # of an explanation, before one was measured

T = TypeVar("T")
Between = Callable[[], None]  # raises when the explanation is not wanted any more


class _UnwantedError(Exception):
    """Nobody waits for it any more."""


@dataclass(eq=False)
class _Job:
    work: Callable[[Between], Any]
    deadline: float  # of time.monotonic()
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]

    @property
    def is_wanted(self) -> bool:
        return not self.future.done() and self.deadline >= time.monotonic()

    def between(self) -> None:
        """Ends the work where nobody waits for it."""
        if not self.is_wanted:
            raise _UnwantedError


class Explainer:
    """The thread of explanations, and those that wait for it."""

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._max_waiting = max_waiting
        self._queue: deque[_Job] = deque()
        self._change = threading.Condition()
        self._closing = False
        self._seconds = FIRST_S  # of the last explanation
        self._thread = threading.Thread(target=self._run, name="explanations", daemon=True)

    def start(self) -> None:
        """Begin to take work."""
        self._thread.start()

    async def run(self, work: Callable[[Between], T], deadline_s: float) -> T:
        """What `work` returns. It is given a function to call between its steps.

        Raises:
            BusyError, LateError, ClosedError: there will be nothing.
        """
        loop = asyncio.get_running_loop()
        job = _Job(work, time.monotonic() + deadline_s, loop, loop.create_future())
        with self._change:
            if self._closing:
                raise ClosedError
            waiting = sum(other.is_wanted for other in self._queue)
            if waiting >= self._max_waiting:
                raise QueueFullError(max(1, round(waiting * self._seconds)))
            self._queue.append(job)
            self._change.notify()
        try:
            async with asyncio.timeout(deadline_s):
                result: T = await job.future
                return result
        except TimeoutError as error:
            raise DeadlineExceededError from error
        finally:
            with self._change, contextlib.suppress(ValueError):
                self._queue.remove(job)  # if it was not begun

    def close(self, wait_s: float = 30.0) -> None:
        """Take no more work, and end the thread; those that wait are answered first."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join(wait_s)

    # ------------------------------------------------------------------ in the thread

    def _run(self) -> None:
        torch.set_num_threads(1)  # of this thread
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (job := self._take()) is not None:
            started = time.monotonic()
            try:
                job.between()
                result: Any = job.work(job.between)
            except _UnwantedError:
                continue
            except Exception as error:
                result = error
            self._seconds = time.monotonic() - started
            if not job.loop.is_closed():
                job.loop.call_soon_threadsafe(_settle, job.future, result)

    def _take(self) -> _Job | None:
        with self._change:
            while not self._queue:
                if self._closing:
                    return None
                self._change.wait()
            return self._queue.popleft()


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
