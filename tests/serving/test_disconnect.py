"""Work ends when its client disconnects."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from lasttoken.serving import disconnect
from lasttoken.serving.disconnect import while_connected
from lasttoken.serving.rejections import CLIENT_GONE, RejectedError


def request_that_ends(after_s: float | None) -> Request:
    """A request whose client disconnects after some seconds; None: never."""

    async def receive() -> Any:
        await asyncio.sleep(60 if after_s is None else after_s)
        return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


@pytest.fixture(autouse=True)
def watched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disconnect, "WATCHED_AFTER_S", 0.01)


def test_the_result_is_returned_while_the_client_is_connected() -> None:
    async def work() -> str:
        await asyncio.sleep(0.05)
        return "done"

    assert asyncio.run(while_connected(request_that_ends(None), work())) == "done"


def test_the_work_is_cancelled_when_the_client_disconnects() -> None:
    cancelled: list[bool] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def scenario() -> None:
        with pytest.raises(RejectedError) as caught:
            await while_connected(request_that_ends(0.02), work())
        assert caught.value.status == CLIENT_GONE
        await asyncio.sleep(0)
        assert cancelled == [True]

    asyncio.run(scenario())


def test_an_error_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(while_connected(request_that_ends(None), work()))
