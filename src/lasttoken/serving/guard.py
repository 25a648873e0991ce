"""What stands before every route: limits, hosts, the token, headers of the answer, and a line in the log.

    request ─► headers too long? 431 ─► host not ours? 421 ─► token? 401 ─► body too long? 413 ─► route ─► log, metrics

Plain ASGI, so that a body is cut off while it comes in and is never held beyond its limit.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import uuid4

from lasttoken.serving.metrics import ServerMetrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = ("/", "/app.js", "/style.css", "/docs", "/docs.js", "/health", "/v2/health/live", "/v2/health/ready")
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
MAX_HEADER_BYTES = 16_384
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
KINDS = {400: "validation", 401: "unauthorized", 404: "not_found", 405: "not_allowed", 413: "too_large", 421: "host"}


class TooLargeError(Exception):
    """A body that is longer than allowed."""


@dataclass(frozen=True)
class Limits:
    """What a request may hold, and how long it may take."""

    body_bytes: int = 4_000_000
    texts: int = 1_000
    characters: int = 100_000  # of one text
    deadline_s: float = 30.0


class Guard:
    """The application with what stands before it."""

    def __init__(
        self,
        app: App,
        limits: Limits,
        metrics: ServerMetrics,
        token: str | None = None,
        hosts: Iterable[str] | None = LOOPBACK,
        log: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201
    ) -> None:
        """`hosts`: names in the Host header that are ours; None: any. `token`: what clients must show."""
        self.app, self.limits, self.metrics = app, limits, metrics
        self.token = token.encode() if token else None
        self.hosts = None if hosts is None else {host.lower() for host in hosts}
        self.log = log
        self._start, self._numbers = uuid4().hex[:16], count()  # of requests' names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, request_id = time.perf_counter(), 500, f"{self._start}{next(self._numbers):016x}"
        scope.setdefault("state", {})["facts"] = {}

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [*HEADERS, (b"x-request-id", request_id.encode())]
                message["headers"] = [*message.get("headers", []), *extra]
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal:
                await _answer(answered, *refusal)
            else:
                await self._limited(scope, receive, answered)
        except Exception as error:
            if status != 500:
                raise  # the answer had begun
            self.log(json.dumps({"event": "error", "request_id": request_id, "error": type(error).__name__}))
            await _answer(answered, 500, "an error of ours; the log has its kind")
        finally:
            seconds = time.perf_counter() - started
            path = getattr(scope.get("route"), "path", "other")
            self.metrics.on_request(path, status, seconds)
            facts = {"status": status, "ms": round(1000 * seconds, 2), **scope["state"]["facts"]}
            line = {"event": "request", "request_id": request_id, "method": scope["method"], "path": path, **facts}
            self.log(json.dumps(line))

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        n_bytes, refused = 0, False

        async def counted() -> Message:
            nonlocal n_bytes, refused
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self.limits.body_bytes:
                refused = True
                raise TooLargeError
            return message

        async def unless_refused(message: Message) -> None:
            if not refused:  # else it says that the body could not be read, which is our doing
                await send(message)

        with contextlib.suppress(TooLargeError):
            await self.app(scope, counted, unless_refused)
        if refused:
            await _answer(send, 413, self._too_large())

    def _too_large(self) -> str:
        return f"the body is longer than {self.limits.body_bytes:,} bytes; send fewer texts at a time"

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), value)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            return 431, f"the headers are longer than {MAX_HEADER_BYTES:,} bytes"
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host if host.endswith("]") else host.rsplit(":", 1)[0]
        if self.hosts is not None and name not in self.hosts:
            return 421, "this server does not answer to that host name (serve --allow-host)"
        if self.token and scope["path"] not in OPEN_PATHS and not self._shown(headers.get(b"authorization", b"")):
            return 401, "a bearer token is needed: send the header Authorization: Bearer …"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > self.limits.body_bytes:
            return 413, self._too_large()
        return None

    def _shown(self, authorization: bytes) -> bool:
        kind, _, shown = authorization.partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(shown.strip(), self.token or b"")


async def _answer(send: Send, status: int, sentence: str) -> None:
    content = json.dumps({"error": sentence, "error_type": kind_of(status)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    headers += [(b"www-authenticate", b"Bearer")] if status == 401 else []
    headers += [(b"connection", b"close")] if status in (413, 431) else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def kind_of(status: int) -> str:
    """A word for a status, for programs."""
    return KINDS.get(status, "validation" if status == 422 else "overloaded" if status in (429, 503, 504) else "error")
