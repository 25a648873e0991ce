"""One connection: uvicorn's HTTP protocol, with an end to everything that a slow or silent client could hold.

    opened ──header_s──► headers ──body_s──► body ──► answer ──write_s──► taken ──► next request, or closed
              408                   closed                      aborted     uvicorn's keep-alive time-out

`Intake` answers a late body with 408 while a route waits for it; the timer here is for bodies that nobody reads,
because their request was refused at once. When all connections are in use, a new one takes the place of the one that
has been waiting for its client the longest; where none is waiting for its client, the new one is answered 503.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lasttoken.serving.limits import Limits
from lasttoken.serving.refusals import SECURITY_HEADERS, refusal_body

MAX_HEAD_BYTES = 65_536  # of request line and headers, before they are looked at (guard.py allows less)
BODY_GRACE_S = 5.0  # after `body_s`: the route's own answer comes first


class Connection(HttpToolsProtocol):
    """uvicorn's, with time-outs; `limits` is set by `connection_class`."""

    limits = Limits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._in_head = self._in_request = False
        self._n_head_bytes = 0
        self.heard_at = time.monotonic()

    @property
    def waits_for_client(self) -> bool:
        """Whether it is the client's turn: to send a request, or the rest of one."""
        return self._in_request or self.cycle is None or self.cycle.response_complete

    # ------------------------------------------------------------------ uvicorn calls these

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections and not self._make_room():
            self._refuse(503, "too many connections; try again in 1 s")
            return
        self._wait(self.limits.header_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._wait(None)
        if self._write_timer:
            self._write_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self.heard_at = time.monotonic()
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._n_head_bytes += len(data)
            if self._n_head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, f"the request line and headers are longer than {MAX_HEAD_BYTES:,} bytes")

    def on_message_begin(self) -> None:
        """The first byte of a request was parsed."""
        super().on_message_begin()
        self._in_head = self._in_request = True
        self._n_head_bytes = 0
        self._wait(self.limits.header_s)

    def on_headers_complete(self) -> None:
        """The blank line was parsed."""
        self._in_head = False
        self._wait(self.limits.body_s + BODY_GRACE_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The last byte of a request was parsed."""
        self._in_request = False
        self._wait(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer was handed to the transport."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._abort_later()

    def pause_writing(self) -> None:
        """The client takes its answer more slowly than it is sent."""
        super().pause_writing()
        self._abort_later()

    def send_400_response(self, msg: str) -> None:
        """What was received is not HTTP."""
        self._refuse(400, "this is not a valid HTTP request")

    # ------------------------------------------------------------------ our own

    def _wait(self, seconds: float | None) -> None:
        """Wait so long for the client, from now on; None: it is not the client's turn."""
        if self._timer:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        if self._in_head:
            self._refuse(408, f"the headers did not arrive within {self.limits.header_s:g} s")
        else:
            self.transport.close()

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer without the application, and close."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()  # in the middle of another answer
            return
        content = refusal_body(status, sentence)
        headers = [
            *SECURITY_HEADERS,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"connection", b"close"),
        ]
        lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
        lines += [name + b": " + value for name, value in headers]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + content)
        self.transport.close()
        self._abort_later()

    def _abort_later(self) -> None:
        """Give the connection up where the client takes nothing of what was sent for `write_s`."""
        if self._write_timer:
            self._write_timer.cancel()
        size = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(self.limits.write_s, self._abort_unless_moving, size)

    def _abort_unless_moving(self, size: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left and left >= size:
            self.transport.abort()
        elif left:
            self._abort_later()

    def _make_room(self) -> bool:
        """Close the connection that has waited for its client the longest; False: none waits."""
        waiting = [
            other
            for other in self.connections
            if isinstance(other, Connection)
            and other is not self
            and other.waits_for_client
            and not other.transport.is_closing()
        ]
        if waiting:
            min(waiting, key=lambda other: other.heard_at).transport.abort()
        return bool(waiting)


def connection_class(limits: Limits) -> type[Connection]:
    """The protocol of a server with these limits."""
    return type("LimitedConnection", (Connection,), {"limits": limits})
