"""The queue and its batches: joined, bounded, late, cancelled, and drained."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving.conftest import TEXTS

from lasttoken.classifier.predict import Predictor
from lasttoken.serving.engine import Engine, EngineHooks
from lasttoken.serving.models import Group, load_models
from lasttoken.serving.pending import ClosedError, DeadlineExceededError, QueueFullError


@pytest.fixture
def groups(runs: list[Path]) -> list[Group]:
    return load_models(runs[:1], "cpu")


@asynccontextmanager
async def running(
    groups: list[Group], max_queue: int = 100, characters: int = 2000, n_threads: int = 1, **hooks: Any
) -> AsyncIterator[Engine]:
    engine = Engine(groups, max_queue, characters, EngineHooks(**hooks), n_threads)
    await asyncio.to_thread(engine.start)
    try:
        yield engine
    finally:
        await asyncio.to_thread(engine.close)


@contextmanager
def held(engine: Engine) -> Iterator[threading.Event]:
    """Keep the models' thread busy until the event is set."""
    release, began = threading.Event(), threading.Event()
    real = engine._compute

    def compute(jobs: Any) -> Any:
        began.set()
        release.wait(20)
        return real(jobs)

    engine._compute = compute  # type: ignore[method-assign, assignment]
    try:
        yield release
    finally:
        release.set()


def test_waiting_requests_are_joined_and_answered_as_if_alone(groups: list[Group], predictor: Predictor) -> None:
    sizes: list[int] = []

    async def scenario() -> list[Any]:
        async with running(groups, on_batch=lambda n, tokens, seconds: sizes.append(n)) as engine:
            with held(engine) as release:
                asked = [asyncio.create_task(engine.classify([text], ["spam"], 20)) for text in TEXTS]
                await asyncio.sleep(0.1)
                release.set()
                return await asyncio.gather(*asked)

    answers = asyncio.run(scenario())
    expected = predictor.predict(TEXTS)
    for answer, prediction in zip(answers, expected, strict=True):
        assert np.exp(answer["spam"].log_probs[0]) == pytest.approx(list(prediction.probs.values()), abs=1e-5)
    assert sum(sizes) == len(TEXTS)
    assert len(sizes) < len(TEXTS) / 2
    assert max(sizes) > 5


def test_a_full_queue_rejects_and_says_when_to_try_again(groups: list[Group]) -> None:
    async def scenario() -> None:
        async with running(groups, max_queue=3) as engine:
            with held(engine):
                first = asyncio.create_task(engine.classify(["a"], ["spam"], 20))
                await asyncio.sleep(0.05)  # it is being computed
                waiting = [asyncio.create_task(engine.classify(["b"], ["spam"], 20)) for _ in range(3)]
                await asyncio.sleep(0.05)
                with pytest.raises(QueueFullError) as caught:
                    await engine.classify(["c"], ["spam"], 20)
                assert caught.value.retry_after_s >= 1
            assert len(await asyncio.gather(first, *waiting)) == 4
            assert await engine.classify(["d"] * 10, ["spam"], 20)  # more than fit into the queue, but nothing waits

    asyncio.run(scenario())


def test_late_and_cancelled_requests_are_not_computed(groups: list[Group]) -> None:
    sizes: list[int] = []

    async def scenario() -> None:
        async with running(groups, on_batch=lambda n, tokens, seconds: sizes.append(n)) as engine:
            with held(engine):
                first = asyncio.create_task(engine.classify(["a"], ["spam"], 20))
                await asyncio.sleep(0.05)
                gone = asyncio.create_task(engine.classify(["b"], ["spam"], 20))
                with pytest.raises(DeadlineExceededError):
                    await engine.classify(["c"], ["spam"], 0.05)
                gone.cancel()
                await asyncio.sleep(0)
            await first
            await engine.classify(["d"], ["spam"], 20)
            with pytest.raises(asyncio.CancelledError):
                await gone

    asyncio.run(scenario())
    assert sizes == [1, 1]


def test_closing_answers_waiting_requests_and_takes_no_more(groups: list[Group]) -> None:
    async def scenario() -> None:
        engine = Engine(groups, 100, 2000)
        await asyncio.to_thread(engine.start)
        assert engine.is_ready
        with held(engine) as release:
            asked = [asyncio.create_task(engine.classify([text], ["spam"], 20)) for text in TEXTS[:6]]
            await asyncio.sleep(0.05)
            closing = asyncio.create_task(asyncio.to_thread(engine.close))
            await asyncio.sleep(0.05)
            with pytest.raises(ClosedError):
                await engine.classify(["x"], ["spam"], 20)
            release.set()
            assert len(await asyncio.gather(*asked)) == 6
            await closing
        assert not engine.is_ready

    asyncio.run(scenario())


def test_an_error_affects_only_its_batch(groups: list[Group]) -> None:
    async def scenario() -> None:
        async with running(groups) as engine:
            real, engine._compute = engine._compute, lambda jobs: 1 / 0  # type: ignore[method-assign, assignment, return-value]
            with pytest.raises(ZeroDivisionError):
                await engine.classify(["a"], ["spam"], 20)
            engine._compute = real  # type: ignore[method-assign]
            assert await engine.classify(["a"], ["spam"], 20)

    asyncio.run(scenario())


def test_a_single_request_is_not_kept_waiting_for_others(groups: list[Group]) -> None:
    """A request is answered at once, even if the batch before joined several."""

    async def scenario() -> float:
        async with running(groups) as engine:
            engine._joined_several = True
            started = time.monotonic()
            await engine.classify(["a"], ["spam"], 20)
            return time.monotonic() - started

    assert asyncio.run(scenario()) < 5


def test_a_long_request_is_computed_in_pieces_and_others_are_answered_in_between(
    groups: list[Group], predictor: Predictor
) -> None:
    sizes: list[int] = []
    order: list[str] = []

    async def ask(engine: Engine, name: str, texts: list[str]) -> Any:
        scores = await engine.classify(texts, ["spam"], 20)
        order.append(name)
        return scores

    async def scenario() -> list[Any]:
        async with running(
            groups, max_queue=1000, characters=200, on_batch=lambda n, tokens, seconds: sizes.append(n)
        ) as engine:
            with held(engine) as release:
                long = asyncio.create_task(ask(engine, "long", TEXTS * 3))
                await asyncio.sleep(0.05)
                short = asyncio.create_task(ask(engine, "short", TEXTS[:1]))
                await asyncio.sleep(0.05)
                release.set()
                return list(await asyncio.gather(long, short))

    long, _ = asyncio.run(scenario())
    assert order == ["short", "long"]
    assert len(sizes) > 10
    assert sum(sizes) == len(TEXTS) * 3 + 1
    expected = [list(prediction.probs.values()) for prediction in predictor.predict(TEXTS * 3)]
    np.testing.assert_allclose(np.exp(long["spam"].log_probs), expected, atol=1e-5)


def test_two_threads_answer_in_the_texts_order(groups: list[Group], predictor: Predictor) -> None:
    async def scenario() -> list[Any]:
        async with running(groups, max_queue=1000, characters=150, n_threads=2) as engine:
            return list(
                await asyncio.gather(*(engine.classify(TEXTS[first:] * 2, ["spam"], 20) for first in range(10)))
            )

    answers = asyncio.run(scenario())
    for first, answer in enumerate(answers):
        expected = [list(prediction.probs.values()) for prediction in predictor.predict(TEXTS[first:] * 2)]
        np.testing.assert_allclose(np.exp(answer["spam"].log_probs), expected, atol=1e-5)
