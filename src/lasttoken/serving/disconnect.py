"""Work for a client ends when the client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from lasttoken.serving.rejections import CLIENT_GONE, RejectedError

WATCHED_AFTER_S = 0.25  # most answers are quicker, and watching the connection costs time

T = TypeVar("T")


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Await the work, and cancel it when the client disconnects.

    Raises:
        RejectedError: the client has disconnected.
    """
    task = asyncio.ensure_future(work)
    disconnect: asyncio.Future[None] | None = None
    try:
        if not (await asyncio.wait((task,), timeout=WATCHED_AFTER_S))[0]:
            disconnect = asyncio.ensure_future(_disconnected(request))
            await asyncio.wait((task, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise RejectedError(CLIENT_GONE, "the client has disconnected")
        return task.result()
    finally:
        task.cancel()
        if disconnect:
            disconnect.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
