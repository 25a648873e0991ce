"""Checks in front of every route: limits, host names, the token, the headers of every answer, a line in the log.

    request ─► too long? 414, 431 ─► another host? 421 ─► CORS ─► token? 401 ─► body? 413 ─► route ─► log, metrics

Plain ASGI. Without the token only the routes that their interface declares open are answered (`Get.is_open`); every
other method and path is rejected.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from itertools import count
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from lasttoken.serving.intake import too_long
from lasttoken.serving.limits import LOOPBACK, Limits
from lasttoken.serving.metrics import ServerMetrics
from lasttoken.serving.registry import open_routes
from lasttoken.serving.rejections import SECURITY_HEADERS, error_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ANY_ORIGIN = "*"
MAX_HEADER_BYTES = 16_384
MAX_URL_BYTES = 8_192
REQUEST_HEADERS = ("Authorization", "Content-Type")  # that pages of other origins may send
RESPONSE_HEADERS = ("X-Request-Id", "Retry-After")  # that they may read


class Guard:
    """The application behind its checks."""

    def __init__(
        self,
        app: App,
        limits: Limits,
        metrics: ServerMetrics,
        token: str | None = None,
        hosts: Iterable[str] | None = LOOPBACK,
        log: Callable[[str], None] | None = None,
        origins: Collection[str] = (),
    ) -> None:
        """`hosts`: accepted names in the Host header; None: any. `token`: the bearer token that clients must send.

        `origins`: of pages that may read the answers, such as https://example.org; `ANY_ORIGIN`: all.
        """
        self.app, self.limits, self.metrics = app, limits, metrics
        self.token = token.encode() if token else None
        self.hosts = None if hosts is None else {host.lower() for host in hosts}
        self.log = log or _write_line
        self._open = open_routes()
        self._guarded: App = _Cors(self._check_client, origins) if origins else self._check_client
        self._id_prefix, self._request_numbers = uuid4().hex[:16], count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        if scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, count it and log it."""
        request_id = f"{self._id_prefix}{next(self._request_numbers):016x}"
        started = time.perf_counter()
        reply = _Reply(send, request_id, scope["method"])
        if reply.is_head:  # answered as GET, without the body
            scope = {**scope, "method": "GET"}
        scope.setdefault("state", {})["facts"] = {}
        try:
            rejection = self._invalid_request(scope)
            if rejection:
                await _reject(reply.send, *rejection)
            else:
                await self._guarded(scope, receive, reply.send)
        except asyncio.CancelledError:
            if not reply.has_begun:
                await _reject(reply.send, 503, "the server is shutting down")
            raise
        except Exception as error:
            self.log(json.dumps({"event": "error", "request_id": request_id, "error": type(error).__name__}))
            if not reply.has_begun:
                await _reject(reply.send, 500, "internal error; the server's log names its type")
            elif not reply.is_complete:
                raise
        finally:
            seconds = time.perf_counter() - started
            path = getattr(scope.get("route"), "path", "other")
            self.metrics.on_request(path, reply.status, seconds)
            facts = {"status": reply.status, "ms": round(1000 * seconds, 2), **scope["state"]["facts"]}
            method = "HEAD" if reply.is_head else scope["method"]
            line = {"event": "request", "request_id": request_id, "method": method, "path": path, **facts}
            self.log(json.dumps(line))

    async def _check_client(self, scope: Scope, receive: Receive, send: Send) -> None:
        rejection = self._forbidden_request(scope)
        if rejection:
            await _reject(send, *rejection)
        else:
            await self.app(scope, receive, send)

    def _invalid_request(self, scope: Scope) -> tuple[int, str] | None:
        """Status and message for a request that is invalid for every client, or None; checked before CORS."""
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            return 431, f"the headers are longer than {MAX_HEADER_BYTES:,} bytes"
        if len(scope["path"]) + len(scope.get("query_string", b"")) > MAX_URL_BYTES:
            return 414, f"the URL is longer than {MAX_URL_BYTES:,} bytes"
        host = _headers(scope).get(b"host", b"").decode("latin-1").lower()
        name = host if host.endswith("]") else host.rsplit(":", 1)[0]
        if self.hosts is not None and name not in self.hosts:
            return 421, "this server does not answer to that host name (serve --allow-host)"
        return None

    def _forbidden_request(self, scope: Scope) -> tuple[int, str] | None:
        """Status and message for a request without the token or with too long a body, or None; checked after CORS."""
        headers = _headers(scope)
        is_open = (scope["method"], scope["path"]) in self._open
        if self.token and not is_open and not self._has_token(headers.get(b"authorization", b"")):
            return 401, "a bearer token is needed: send the header Authorization: Bearer …"
        length = headers.get(b"content-length", b"0").strip(b" \t")
        if not length.isdigit():
            return 400, "the header Content-Length is not a number"
        if int(length[:20]) > self.limits.body_bytes:
            return 413, too_long(self.limits)
        return None

    def _has_token(self, authorization: bytes) -> bool:
        scheme, _, token = authorization.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self.token or b"")


class _Reply:
    """Sends the answer with the headers of every answer, and records its status and how far it got."""

    def __init__(self, send: Send, request_id: str, method: str) -> None:
        self._send, self._request_id = send, request_id
        self.is_head = method == "HEAD"
        self.status = 500
        self.has_begun = self.is_complete = False

    async def send(self, message: Message) -> None:
        """See ASGI."""
        if message["type"] == "http.response.start":
            self.status, self.has_begun = message["status"], True
            extra = [*SECURITY_HEADERS, (b"x-request-id", self._request_id.encode())]
            message["headers"] = [*message.get("headers", []), *extra]
        elif message["type"] == "http.response.body":
            self.is_complete = not message.get("more_body", False)
            if self.is_head:
                message = {**message, "body": b""}
        await self._send(message)


class _Cors(CORSMiddleware):
    """starlette's CORS, with error responses as JSON."""

    def __init__(self, app: App, origins: Collection[str]) -> None:
        methods = ("GET", "HEAD", "POST")
        super().__init__(app, origins, methods, REQUEST_HEADERS, expose_headers=RESPONSE_HEADERS)

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a browser's preflight request."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        sentence = "pages of that origin may not send this request (serve --allow-origin)"
        kept = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        return Response(error_body(400, sentence), 400, kept, "application/json")


def _write_line(line: str) -> None:
    """Write a line to stderr at once: of several workers' lines none is split by another."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """Headers by name; the first value counts if a name is repeated."""
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.lower(), value)
    return headers


async def _reject(send: Send, status: int, sentence: str) -> None:
    content = error_body(status, sentence)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    headers += [(b"www-authenticate", b"Bearer")] if status == 401 else []
    headers += [(b"connection", b"close")] if status in (400, 414, 431, 503) else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
