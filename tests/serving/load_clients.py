"""Clients that ask again and again, over raw sockets, and count every request that was not answered 200."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

PAUSE_S = 0.01  # between two requests of a client, so that the machine also has time for workers that start


@dataclass
class Tally:
    """What became of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)  # 0: no answer
    longest_s: float = 0.0
    stop: bool = False

    @property
    def n_lost(self) -> int:
        """Requests without an answer, or with another than 200."""
        return self.statuses.total() - self.statuses[200]


def _request(body: Any, keep: bool, token: str) -> bytes:
    content = json.dumps(body).encode()
    headers = ["POST /classify HTTP/1.1", "host: localhost", "content-type: application/json"]
    headers += [f"authorization: Bearer {token}", f"content-length: {len(content)}"]
    headers += [] if keep else ["connection: close"]
    return "\r\n".join(headers).encode() + b"\r\n\r\n" + content


async def _client(port: int, request: bytes, tally: Tally, retries: int) -> None:
    """One client: on one connection while the server keeps it, or on a new one for each request."""
    stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while not tally.stop:
        started = time.perf_counter()
        for _ in range(1 + retries):
            status, stream = await _ask(port, request, stream)
            if status:
                break
        tally.statuses[status] += 1
        tally.longest_s = max(tally.longest_s, time.perf_counter() - started)
        await asyncio.sleep(PAUSE_S)
    if stream:
        stream[1].close()
        await stream[1].wait_closed()


async def _ask(
    port: int, request: bytes, stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None
) -> tuple[int, tuple[asyncio.StreamReader, asyncio.StreamWriter] | None]:
    """The status, 0 without an answer; and the connection, if the server keeps it."""
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = stream or await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
    except (OSError, EOFError):
        if writer:
            writer.close()
        return 0, None
    if b"connection: close" in head:
        writer.close()
        return int(head.split(b" ", 2)[1]), None
    return int(head.split(b" ", 2)[1]), (reader, writer)


async def load(
    port: int, body: Any, tally: Tally, n_kept: int, n_new: int, retries: int = 0, token: str = "none"
) -> None:
    """Until `tally.stop`: `n_kept` clients keep their connections, `n_new` open one for each request."""
    kinds = [True] * n_kept + [False] * n_new
    await asyncio.gather(*(_client(port, _request(body, keep, token), tally, retries) for keep in kinds))
