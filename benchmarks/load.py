"""The clients of server.py, a process of its own: connections to loopback that ask, and time the answers.

Reads its job from stdin as JSON: ports, path, bodies, clients, seconds, rate. Without a rate each client asks again as
soon as it is answered. With a rate requests go out on time, on any free connection, whatever became of the others; one
for which no connection is free is counted as unsent. Tells on stdout how many answers of which status there were in a
second, and how long they took (of those that were answered 200, ms).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np

LAST_S = 60.0  # that the last answers may take
BEHIND = 200  # requests that may be sent at once, after a pause of this process


@dataclass
class Seen:
    """What became of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    sent: int = 0
    unsent: int = 0

    def told(self, elapsed: float) -> dict[str, Any]:
        """For server.py."""
        p50, p99 = np.percentile(self.seconds, [50, 99]) * 1000 if self.seconds else (float("nan"),) * 2
        answered = self.statuses.total()
        found = {"per_s": answered / elapsed, "p50_ms": float(p50), "p99_ms": float(p99), "statuses": self.statuses}
        return {**found, "sent": self.sent, "unsent": self.unsent}


class Connection:
    """One kept alive; opened again if the server ends it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> int:
        """The answer's status; 0: there was none."""
        try:
            if self.reader is None or self.writer is None:
                self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.writer.write(request)
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            await self.reader.readexactly(length)
            return int(head.split(b" ", 2)[1])
        except (OSError, EOFError, IndexError):
            if self.writer is not None:
                self.writer.close()
            self.reader = self.writer = None
            return 0


async def ask(connections: list[Connection], request: bytes, seen: Seen) -> None:
    """Ask all at once; the worst status counts."""
    started = time.perf_counter()
    seen.sent += 1
    if len(connections) == 1:
        status = await connections[0].ask(request)
    else:
        found = await asyncio.gather(*(one.ask(request) for one in connections))
        status = max(found, key=lambda one: one or 999)
    if status:
        seen.statuses[status] += 1
    if status == 200:
        seen.seconds.append(time.perf_counter() - started)


async def closed_loop(clients: list[list[Connection]], requests: list[bytes], seconds: float, seen: Seen) -> None:
    """Each client asks as soon as it is answered."""
    following, end = cycle(requests), time.perf_counter() + seconds

    async def client(connections: list[Connection]) -> None:
        while time.perf_counter() < end:
            await ask(connections, next(following), seen)

    await asyncio.gather(*map(client, clients))


async def open_loop(
    clients: list[list[Connection]], requests: list[bytes], seconds: float, rate: float, seen: Seen
) -> None:
    """Requests go out at a rate, whether others were answered or not."""
    free, running = deque(clients), set[asyncio.Task[None]]()
    following, start = cycle(requests), time.perf_counter()

    async def one(connections: list[Connection]) -> None:
        try:
            await ask(connections, next(following), seen)
        finally:
            free.append(connections)

    while (passed := time.perf_counter() - start) < seconds:
        for _ in range(min(BEHIND, int(passed * rate) - seen.sent - seen.unsent)):
            if free:
                task = asyncio.create_task(one(free.popleft()))
                running.add(task)
                task.add_done_callback(running.discard)
            else:
                seen.unsent += 1
        await asyncio.sleep(0.001)
    if running:
        await asyncio.wait(running, timeout=LAST_S)


async def work(job: dict[str, Any]) -> dict[str, Any]:
    """Do the job."""
    clients = [[Connection(port) for port in job["ports"]] for _ in range(job["clients"])]
    requests = [_request(job["path"], body) for body in job["bodies"]]
    seen, started = Seen(), time.perf_counter()
    if job["rate"] is None:
        await closed_loop(clients, requests, job["seconds"], seen)
    else:
        await open_loop(clients, requests, job["seconds"], job["rate"], seen)
    return seen.told(time.perf_counter() - started)


def _request(path: str, body: Any) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def main() -> None:
    """On uvloop, as the server is, so that the clients take as little of its cores as they can."""
    import uvloop

    print(json.dumps(uvloop.run(work(json.load(sys.stdin)))))


if __name__ == "__main__":
    main()
