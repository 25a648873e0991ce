"""A request that waits for a thread: its result crosses from that thread to the event loop, or its deadline passes.

event loop: await pending.result() ◄──── deliver([(pending, result), …]) :thread
            └─ DeadlineExceededError
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any


class QueueFullError(Exception):
    """The queue is full; there should be room again after `retry_after_s` seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class DeadlineExceededError(Exception):
    """The deadline passed before the result was computed."""


class ClosedError(Exception):
    """The server is shutting down and takes no more requests."""


class Pending:
    """A result that a coroutine waits for and a thread computes; make it on the event loop."""

    def __init__(self, deadline_s: float) -> None:
        """`deadline_s`: seconds from now."""
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Any] = self._loop.create_future()
        self._deadline_s, self._deadline = deadline_s, time.monotonic() + deadline_s

    @property
    def is_wanted(self) -> bool:
        """Whether a client still waits for the result, and the deadline has not passed."""
        return not self._future.done() and self._deadline >= time.monotonic()

    async def result(self) -> Any:
        """Wait for the result.

        Raises:
            DeadlineExceededError: it took longer than `deadline_s`.
            Exception: whatever the thread raised.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._future
        except TimeoutError as error:
            raise DeadlineExceededError from error

    def _resolve(self, result: Any) -> None:
        if self._future.done():
            return
        if isinstance(result, Exception):
            self._future.set_exception(result)
        else:
            self._future.set_result(result)


def deliver(results: Iterable[tuple[Pending, Any]]) -> None:
    """Hand results (or the exceptions to raise) from a thread to the waiting coroutines; wakes each event loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Pending, Any]]] = {}
    for pending, result in results:
        by_loop.setdefault(pending._loop, []).append((pending, result))
    for loop, of_loop in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve_all, of_loop)


def _resolve_all(results: Iterable[tuple[Pending, Any]]) -> None:
    for pending, result in results:
        pending._resolve(result)
