"""Explanations wait for each other, no classification waits for them, and they end when no client wants them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving.conftest import served

from lasttoken.classifier.explain import METHODS, explain
from lasttoken.classifier.predict import Predictor
from lasttoken.serving.explainer import CheckWanted, Explainer
from lasttoken.serving.pending import ClosedError, DeadlineExceededError, QueueFullError

LONG = "Win a prize now, call me " * 20


@asynccontextmanager
async def running(max_waiting: int = 16) -> AsyncIterator[Explainer]:
    explainer = Explainer(max_waiting)
    explainer.start()
    try:
        yield explainer
    finally:
        await asyncio.to_thread(explainer.close)


class Endless:
    """Work that continues until it is no longer wanted."""

    def __init__(self) -> None:
        self.began, self.ended = threading.Event(), threading.Event()

    def __call__(self, check_wanted: CheckWanted) -> None:
        self.began.set()
        try:
            while True:
                check_wanted()
                time.sleep(0.005)
        finally:
            self.ended.set()


def test_work_ends_when_its_client_has_gone_or_its_deadline_has_passed() -> None:
    async def scenario() -> None:
        async with running() as explainer:
            gone, late = Endless(), Endless()
            task = asyncio.create_task(explainer.run(gone, 60))
            await asyncio.to_thread(gone.began.wait, 10)
            task.cancel()
            assert await asyncio.to_thread(gone.ended.wait, 10)
            with pytest.raises(DeadlineExceededError):
                await explainer.run(late, 0.1)
            assert await asyncio.to_thread(late.ended.wait, 10)
            assert await explainer.run(lambda check_wanted: "next", 10) == "next"

    asyncio.run(scenario())


def test_the_queue_is_bounded_and_disconnected_clients_do_not_count() -> None:
    async def scenario() -> None:
        async with running(max_waiting=2) as explainer:
            first = Endless()
            tasks = [asyncio.create_task(explainer.run(first, 60))]
            await asyncio.to_thread(first.began.wait, 10)
            never = [Endless(), Endless()]
            tasks += [asyncio.create_task(explainer.run(work, 60)) for work in never]
            await asyncio.sleep(0.05)
            with pytest.raises(QueueFullError) as caught:
                await explainer.run(lambda check_wanted: None, 60)
            assert caught.value.retry_after_s >= 1
            for task in tasks:
                task.cancel()
            await asyncio.sleep(0.05)
            assert await explainer.run(lambda check_wanted: 1, 60) == 1
            assert not any(work.began.is_set() for work in never)

    asyncio.run(scenario())


def test_an_error_affects_only_its_explanation_and_a_closed_explainer_rejects() -> None:
    async def scenario() -> None:
        async with running() as explainer:
            with pytest.raises(ZeroDivisionError):
                await explainer.run(lambda check_wanted: 1 / 0, 10)
            assert await explainer.run(lambda check_wanted: threading.current_thread().name, 10) == "explanations"
        with pytest.raises(ClosedError):
            await explainer.run(lambda check_wanted: None, 10)

    asyncio.run(scenario())


@pytest.mark.parametrize("method", METHODS)
def test_an_explanation_checks_between_forward_passes_whether_it_is_wanted(predictor: Predictor, method: str) -> None:
    class UnwantedError(Exception):
        pass

    asked = 0

    def between() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise UnwantedError

    with pytest.raises(UnwantedError):
        explain(predictor, LONG, method=method, between=between)


def test_a_classification_does_not_wait_for_explanations(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def slow(*_: Any, between: CheckWanted, **__: Any) -> Any:
        while not release.wait(0.01):
            between()
        raise RuntimeError

    monkeypatch.setattr("lasttoken.serving.interfaces.explain.explain", slow)
    app, server = served(runs[:1])

    async def scenario() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            await asyncio.to_thread(server.start)
            asked = [asyncio.create_task(client.post("/explain", json={"text": LONG})) for _ in range(12)]
            await asyncio.sleep(0.2)
            started = time.monotonic()
            answer = await client.post("/classify", json={"text": "hello"}, timeout=20)
            assert answer.status_code == 200
            assert time.monotonic() - started < 10
            assert not any(task.done() for task in asked)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            release.set()
            await asyncio.to_thread(server.close)

    asyncio.run(scenario())


def test_too_many_explanations_are_rejected_with_429(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lasttoken.serving.interfaces.explain.explain", lambda *_, between, **__: Endless()(between))
    app, server = served(runs[:1], deadline_s=3.0)

    async def scenario() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            await asyncio.to_thread(server.start)
            answers = await asyncio.gather(*(client.post("/explain", json={"text": "a"}) for _ in range(20)))
            await asyncio.to_thread(server.close)
            return [answer.status_code for answer in answers]

    statuses = asyncio.run(scenario())
    assert set(statuses) == {429, 504}
    assert 3 <= statuses.count(429) <= 4  # sixteen wait, and one runs unless it was not yet begun
