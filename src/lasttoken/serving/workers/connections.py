"""A worker's connections: counted in the table, and ended without losing a request when the worker is replaced.

A worker with many more connections than another one, such as the one that is left when the other has died, hands some
over in the same way: it asks the client to close, and the next connection goes to the one with the fewest.

A client that keeps its connection may send its next request at the moment at which the server closes. So a worker that
is replaced closes no idle connection: it answers one more request on each, with `Connection: close`, and a connection
without one ends with the usual keep-alive time-out, as it would have anyway.
"""

from __future__ import annotations

import asyncio
from typing import Any

from lasttoken.serving.connections import Connection
from lasttoken.serving.limits import Limits
from lasttoken.serving.workers.accepting import Table

MAX_LEAD = 2  # connections that a worker may have more than another one, and a quarter


class WorkerConnection(Connection):
    """The protocol of a worker; `worker_connection_class` sets the class attributes."""

    table: Table
    worker_id: int
    is_draining = False  # of the whole class: the worker is being replaced

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self.table.set(self.worker_id, len(self.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        if not self.is_draining:
            self.table.set(self.worker_id, len(self.connections))

    def on_headers_complete(self) -> None:
        """The blank line after the headers has been parsed."""
        earlier: Any = self.cycle
        super().on_headers_complete()
        if self.is_draining or self._are_too_many():
            if self.pipeline and not earlier.response_started:  # the connection ends with the last request
                earlier.keep_alive = True
            self.cycle.keep_alive = False

    def _are_too_many(self) -> bool:
        """Whether another worker has so many fewer connections that this one should end here."""
        fewest = self.table.fewest()
        return len(self.connections) > fewest + MAX_LEAD + fewest // 4

    def shutdown(self) -> None:
        """uvicorn stops the server."""
        if not self.is_draining:
            super().shutdown()
        elif self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False


def worker_connection_class(limits: Limits, table: Table, worker_id: int) -> type[WorkerConnection]:
    """The protocol class of one worker."""
    return type(
        "LimitedWorkerConnection", (WorkerConnection,), {"limits": limits, "table": table, "worker_id": worker_id}
    )
