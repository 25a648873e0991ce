"""One connection: uvicorn's HTTP protocol, with time-outs for slow and silent clients.

    opened ──header_s──► headers ──body_s──► body ──► answer ──write_s──► taken ──► next request, or closed
              408                   closed                      aborted     uvicorn's keep-alive time-out

`Intake` answers a late body with 408 while a route waits for it; the timer here is for bodies that no route reads,
because the request was rejected at once. When all connections are in use, a new one replaces the connection that has
waited for its client the longest; if none waits for its client, the new one is answered 503.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lasttoken.serving.limits import Limits
from lasttoken.serving.rejections import SECURITY_HEADERS, error_body

MAX_HEAD_BYTES = 65_536  # of request line and headers while they arrive; guard.py allows less once they are complete
BODY_GRACE_S = 5.0  # after `body_s`, so that the route's own answer comes first


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with time-outs; `connection_class` sets `limits`."""

    limits = Limits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._in_head = self._in_request = False
        self._n_head_bytes = 0
        self.last_received = time.monotonic()

    @property
    def waits_for_client(self) -> bool:
        """Whether the client has to send next: a request, or the rest of one."""
        return self._in_request or self.cycle is None or self.cycle.response_complete

    # ------------------------------------------------------------------ called by asyncio and uvicorn

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections and not self._make_room():
            self._reject(503, "too many connections; try again in 1 s")
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
        self.last_received = time.monotonic()
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._n_head_bytes += len(data)
            if self._n_head_bytes > MAX_HEAD_BYTES:
                self._reject(431, f"the request line and headers are longer than {MAX_HEAD_BYTES:,} bytes")

    def on_message_begin(self) -> None:
        """The first byte of a request has been parsed."""
        super().on_message_begin()
        self._in_head = self._in_request = True
        self._n_head_bytes = 0
        self._wait(self.limits.header_s)

    def on_headers_complete(self) -> None:
        """The blank line after the headers has been parsed."""
        self._in_head = False
        self._wait(self.limits.body_s + BODY_GRACE_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The last byte of a request has been parsed."""
        self._in_request = False
        self._wait(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer has been handed to the transport."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._abort_later()

    def pause_writing(self) -> None:
        """The client reads its answer more slowly than it is sent."""
        super().pause_writing()
        self._abort_later()

    def send_400_response(self, msg: str) -> None:
        """Reject bytes that are not HTTP."""
        self._reject(400, "this is not a valid HTTP request")

    # ------------------------------------------------------------------ time-outs and rejections

    def _wait(self, seconds: float | None) -> None:
        """Restart the time-out; None: the client has nothing to send."""
        if self._timer:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._timed_out)

    def _timed_out(self) -> None:
        if self._in_head:
            self._reject(408, f"the headers did not arrive within {self.limits.header_s:g} s")
        else:
            self.transport.close()

    def _reject(self, status: int, sentence: str) -> None:
        """Answer without the application, and close."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()  # in the middle of another answer
            return
        content = error_body(status, sentence)
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
        """Abort the connection if the client reads none of the answer for `write_s` seconds."""
        if self._write_timer:
            self._write_timer.cancel()
        size = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(self.limits.write_s, self._abort_if_stalled, size)

    def _abort_if_stalled(self, size: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left and left >= size:
            self.transport.abort()
        elif left:
            self._abort_later()

    def _make_room(self) -> bool:
        """Close the connection that has waited for its client the longest; False if none waits for its client."""
        waiting = [
            other
            for other in self.connections
            if isinstance(other, Connection)
            and other is not self
            and other.waits_for_client
            and not other.transport.is_closing()
        ]
        if waiting:
            min(waiting, key=lambda other: other.last_received).transport.abort()
        return bool(waiting)


def connection_class(limits: Limits) -> type[Connection]:
    """The protocol class of a server with these limits."""
    return type("LimitedConnection", (Connection,), {"limits": limits})
