"""uvicorn's server in a worker: it takes connections when the parent says so, and drains when it is replaced."""

from __future__ import annotations

import asyncio
import socket
from multiprocessing.connection import Connection as Pipe

import uvicorn

from lasttoken.serving.workers.accepting import NOT_ACCEPTING, Acceptor
from lasttoken.serving.workers.connections import WorkerConnection
from lasttoken.serving.workers.worker import ACCEPT, DRAIN, Ready


class WorkerServer(uvicorn.Server):
    """A server that its parent controls through a pipe."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, control: Pipe, ready: Ready) -> None:
        """`config.http` is a `WorkerConnection`."""
        super().__init__(config)
        self._listener, self._control, self._ready = listener, control, ready

    @property
    def _protocol(self) -> type[WorkerConnection]:
        protocol = self.config.http
        assert isinstance(protocol, type)
        assert issubclass(protocol, WorkerConnection)
        return protocol

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Warm the models up, and tell the parent."""
        await super().startup(sockets=[])  # the acceptor below takes the place of uvicorn's own listening

        def make_protocol() -> WorkerConnection:
            return self._protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

        connections = self.server_state.connections
        protocol = self._protocol
        self._acceptor = Acceptor(self._listener, make_protocol, lambda: len(connections), protocol.table)
        self.servers = [self._acceptor]  # type: ignore[list-item]  # uvicorn closes it and waits for it, no more
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._on_control)
        self._control.send(self._ready)

    def _on_control(self) -> None:
        try:
            message = self._control.recv()
        except (EOFError, OSError):  # the parent has died: nobody would replace or stop this worker
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            message = DRAIN
        if message == ACCEPT:
            self._protocol.table.set(self._protocol.worker_id, 0)
            self._acceptor.start()
        if message == DRAIN:
            self._protocol.is_draining = True
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Leave new connections to the others, and answer the requests of those that are open."""
        self._protocol.table.set(self._protocol.worker_id, NOT_ACCEPTING)
        self._acceptor.close()
        await self._acceptor.wait_closed()  # so that connections just taken are among those that uvicorn ends
        await super().shutdown(sockets=[])
