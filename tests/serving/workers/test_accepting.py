"""Who takes a connection: the worker with the fewest, and anyone when that one does not."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

from lasttoken.serving.workers.accepting import NOT_ACCEPTING, WAIT_S, Acceptor, Table


def test_the_table_is_one_for_all_and_knows_who_accepts(tmp_path: Path) -> None:
    first, second = Table(tmp_path / "table", 3), Table(tmp_path / "table", 3)
    assert first.fewest() == 0, "nobody accepts"
    first.set(0, 5)
    assert second.fewest() == 5
    second.set(2, 3)
    assert first.fewest() == 3
    first.set(2, NOT_ACCEPTING)
    assert second.fewest() == 5


class Taker:
    """A worker in this process: it accepts and keeps its connections."""

    def __init__(self, listener: socket.socket, path: Path, worker_id: int) -> None:
        self.taken: list[asyncio.BaseTransport] = []
        self.table, self.worker_id = Table(path, 2), worker_id
        self.acceptor = Acceptor(listener.dup(), self.protocol, lambda: len(self.taken), self.table)
        self.table.set(worker_id, 0)
        self.acceptor.start()

    def protocol(self) -> asyncio.Protocol:
        taker = self

        class Taken(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                taker.taken.append(transport)
                taker.table.set(taker.worker_id, len(taker.taken))

        return Taken()

    async def close(self) -> None:
        self.acceptor.close()
        await self.acceptor.wait_closed()
        for transport in self.taken:
            transport.close()


async def _connect(listener: socket.socket, n: int) -> list[asyncio.StreamWriter]:
    return [(await asyncio.open_connection(*listener.getsockname()))[1] for _ in range(n)]


def test_connections_are_shared_out_and_one_worker_alone_takes_all(tmp_path: Path) -> None:
    async def scenario(listener: socket.socket) -> None:
        first, second = (Taker(listener, tmp_path / "table", worker_id) for worker_id in (0, 1))
        clients = await _connect(listener, 20)
        await _until(lambda: len(first.taken) + len(second.taken) == 20)
        assert abs(len(first.taken) - len(second.taken)) <= 1
        await second.close()  # as if it had been killed: its number stays in the table
        started = time.monotonic()
        clients += await _connect(listener, 3)
        await _until(lambda: len(first.taken) >= 13)
        assert time.monotonic() - started > WAIT_S, "it leaves each for the one that seems to have fewer"
        await first.close()
        for client in clients:
            client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        asyncio.run(scenario(listener))


def test_connections_that_wait_are_left_to_others(tmp_path: Path) -> None:
    async def scenario(listener: socket.socket) -> None:
        first = Taker(listener, tmp_path / "table", 0)
        await first.close()
        clients = await _connect(listener, 4)
        await asyncio.sleep(0.02)
        assert first.taken == []
        second = Taker(listener, tmp_path / "table", 1)
        await _until(lambda: len(second.taken) == 4)
        await second.close()
        for client in clients:
            client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        asyncio.run(scenario(listener))


async def _until(is_so: object) -> None:
    for _ in range(500):
        if is_so():  # type: ignore[operator]
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")
