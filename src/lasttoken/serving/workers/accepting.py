"""Workers take connections from one listening socket, and the one with the fewest connections takes the next.

The parent opens the socket and every worker inherits it, so connections wait in one queue. A worker that stops or dies
leaves the queue to the others: none of the waiting connections is lost, which would happen with one queue for each
worker (SO_REUSEPORT). With a socket of its own for each worker, two servers could also be started on one port.

One queue alone does not share out connections that are kept alive: whoever wakes up first takes all that wait, and then
has them for hours. So each worker writes its number of connections into a small table that all of them map, and
leaves a connection for a moment if another worker has fewer. The table is only a hint: when the moment is over, the
worker takes the connection, whatever the table says.

    listening socket ─► worker 0 (3 connections): waits 5 ms, takes it if it is still there
                    └─► worker 1 (2 connections): takes it
"""

from __future__ import annotations

import asyncio
import mmap
import socket
import struct
from collections.abc import Callable
from pathlib import Path

WAIT_S = 0.005  # a connection is left for a worker that has fewer; about the time of a short batch
NOT_ACCEPTING = -1
NUMBER = struct.Struct("<i")
FULL_WAIT_S = 0.1  # when the process cannot open more files


class Table:
    """The number of connections of each worker, in a file that all processes map."""

    def __init__(self, path: Path, n_workers: int) -> None:
        """Open the table, or make it if it is absent; `n_workers`: its length."""
        if not path.exists():
            path.write_bytes(NUMBER.pack(NOT_ACCEPTING) * n_workers)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), n_workers * NUMBER.size)

    def set(self, worker_id: int, n_connections: int) -> None:
        """Write a worker's number; `NOT_ACCEPTING` if it takes no connections."""
        self._map[worker_id * NUMBER.size : (worker_id + 1) * NUMBER.size] = NUMBER.pack(n_connections)

    def fewest(self) -> int:
        """The smallest number of connections of a worker that takes connections; 0 if there is none."""
        numbers = (number for (number,) in NUMBER.iter_unpack(self._map[:]))
        return min((number for number in numbers if number != NOT_ACCEPTING), default=0)


class Acceptor:
    """Takes connections for one worker; stands in for asyncio's server in uvicorn's."""

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        n_connections: Callable[[], int],
        table: Table,
    ) -> None:
        """Take nothing yet; see `start`."""
        self._listener, self._make_protocol = listener, make_protocol
        self._n_connections, self._table = n_connections, table
        self._loop = asyncio.get_running_loop()
        self._is_open = False
        self._waiting: asyncio.TimerHandle | None = None
        self._connecting: set[asyncio.Task[object]] = set()

    def start(self) -> None:
        """Begin to take connections; the socket is listening."""
        self._is_open = True
        self._listener.setblocking(False)
        self._watch()

    def close(self) -> None:
        """Take no more connections; those that wait are left to the other workers."""
        if self._is_open:
            self._loop.remove_reader(self._listener.fileno())
        self._is_open = False
        if self._waiting:
            self._waiting.cancel()
        self._listener.close()  # this process's copy of it

    async def wait_closed(self) -> None:
        """Wait for connections that were just taken to reach their protocol."""
        await asyncio.gather(*self._connecting, return_exceptions=True)

    def _watch(self) -> None:
        self._waiting = None
        self._loop.add_reader(self._listener.fileno(), self._on_connection)

    def _on_connection(self) -> None:
        if self._n_connections() + len(self._connecting) > self._table.fewest():
            self._leave_for(WAIT_S)
        else:
            self._accept()

    def _leave_for(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._waiting = self._loop.call_later(seconds, self._accept_after_all)

    def _accept_after_all(self) -> None:
        self._watch()
        self._accept()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker was quicker, or the client has gone
        except OSError:  # too many open files: leave the connection to the others
            self._leave_for(FULL_WAIT_S)
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._make_protocol, connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
