"""Results cross from a thread to the event loop, until their deadline."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from lasttoken.serving.pending import DeadlineExceededError, Pending, QueueFullError, deliver


def from_a_thread(*results: tuple[Pending, Any]) -> None:
    thread = threading.Thread(target=deliver, args=(results,))
    thread.start()
    thread.join()


def test_a_result_or_an_exception_arrives() -> None:
    async def scenario() -> None:
        result, failure = Pending(10), Pending(10)
        assert result.is_wanted
        from_a_thread((result, "answer"), (failure, KeyError("name")))
        assert await result.result() == "answer"
        with pytest.raises(KeyError):
            await failure.result()
        assert not result.is_wanted

    asyncio.run(scenario())


def test_after_the_deadline_a_result_is_not_wanted_and_a_late_one_is_ignored() -> None:
    errors: list[Any] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        pending = Pending(0.01)
        with pytest.raises(DeadlineExceededError):
            await pending.result()
        from_a_thread((pending, "late"))
        await asyncio.sleep(0.01)
        not_awaited = Pending(0.01)
        await asyncio.sleep(0.05)
        assert not not_awaited.is_wanted

    asyncio.run(scenario())
    assert errors == []


def test_a_cancelled_request_does_not_want_its_result() -> None:
    async def scenario() -> None:
        pending = Pending(10)
        task = asyncio.create_task(pending.result())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not pending.is_wanted

    asyncio.run(scenario())


def test_results_for_a_closed_event_loop_are_dropped() -> None:
    kept: list[Pending] = []

    async def leave() -> None:
        kept.append(Pending(10))

    asyncio.run(leave())
    from_a_thread((kept[0], "answer"))


def test_a_full_queue_names_the_seconds_to_wait() -> None:
    assert "7 s" in str(QueueFullError(7))
