"""Connections over real sockets: slow, silent and malformed clients, and what uvicorn rejects by itself."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from lasttoken.serving.connections import MAX_HEAD_BYTES, connection_class
from lasttoken.serving.limits import Limits

LIMITS = Limits(header_s=0.4, body_s=0.4, write_s=0.4, connections=8)
ANSWER = b"x" * 30_000_000  # more than the kernel takes from the server for a client that does not read


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers /late after reading the body, /large with 30 MB, and every other path at once."""
    content = ANSWER if scope["path"] == "/large" else b"yes"
    if scope["path"] == "/late":
        while (await receive()).get("more_body"):
            pass
    headers = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@contextmanager
def listening(limits: Limits = LIMITS, application: Any = app) -> Iterator[tuple[int, uvicorn.Server]]:
    """A server in a thread, and its port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        protocol = connection_class(limits)
        config = uvicorn.Config(application, http=protocol, ws="none", log_config=None, lifespan="off", backlog=2048)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1], server
        finally:
            server.force_exit = server.should_exit = True
            thread.join(10)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with listening() as (number, _):
        yield number


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def everything(client: socket.socket) -> bytes:
    """All bytes that the server sends until it closes the connection."""
    received = b""
    try:
        while part := client.recv(65_536):
            received += part
    except ConnectionResetError:
        pass
    return received


def rejection(received: bytes) -> tuple[int, Any]:
    """The status and the JSON of an answer; checks the headers that every answer has."""
    head, _, content = received.partition(b"\r\n\r\n")
    assert b"content-security-policy: default-src 'none'" in head
    assert b"x-content-type-options: nosniff" in head
    return int(head.split()[1]), json.loads(content)


def ask(port: int) -> bytes:
    with connect(port) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return everything(client)


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nX-Long: "])
def test_headers_that_do_not_end_are_answered_408(port: int, sent: bytes) -> None:
    with connect(port) as client:
        client.sendall(sent)
        status, content = rejection(everything(client))
        assert status == 408
        assert content["error_type"] == "timeout"


def test_headers_that_arrive_slowly_get_no_more_time(port: int) -> None:
    with connect(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        started = time.monotonic()
        client.settimeout(0.05)
        received = b""
        while not received and time.monotonic() - started < 10:
            client.sendall(b"X: y\r\n")
            try:
                received = client.recv(65_536)
            except TimeoutError:
                continue
        assert rejection(received)[0] == 408


def test_a_silent_connection_is_closed(port: int) -> None:
    with connect(port) as client:
        assert everything(client) == b""


def test_a_body_that_no_route_reads_is_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lasttoken.serving.connections.BODY_GRACE_S", 0.0)
    with listening() as (port, _), connect(port) as client:
        client.sendall(b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        started = time.monotonic()
        client.settimeout(0.05)
        is_open = True
        while is_open and time.monotonic() - started < 10:
            try:
                client.sendall(b"a")
                is_open = client.recv(65_536) != b""
            except TimeoutError:
                continue
            except OSError:
                is_open = False
        assert not is_open


def test_silent_connections_do_not_keep_others_out() -> None:
    limits = Limits(header_s=60, body_s=60, connections=50)
    with listening(limits) as (port, server):
        beginnings = [b"", b"GET / HTT", b"POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"]
        silent = [connect(port) for _ in range(200)]
        for index, client in enumerate(silent):
            try:
                client.sendall(beginnings[index % 3])
            except OSError:  # it was replaced already
                continue
        for _ in range(3):
            assert ask(port).startswith(b"HTTP/1.1 200")
        assert len(server.server_state.connections) <= limits.connections
        for client in silent:
            client.close()


def test_a_connection_that_is_being_answered_is_not_replaced() -> None:
    release = threading.Event()

    async def busy(scope: Any, receive: Any, send: Any) -> None:
        while not release.is_set():
            await asyncio.sleep(0.01)
        await app(scope, receive, send)

    with listening(Limits(connections=2), busy) as (port, _), connect(port) as one, connect(port) as two:
        for client in (one, two):
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        time.sleep(0.3)  # until both are being answered
        with connect(port) as third:
            assert rejection(everything(third))[0] == 503
        release.set()
        for client in (one, two):
            assert everything(client).startswith(b"HTTP/1.1 200")


def test_a_client_that_does_not_read_its_answer_is_disconnected() -> None:
    with listening() as (port, server), connect(port) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        started = time.monotonic()
        time.sleep(0.2)
        assert server.server_state.connections
        while server.server_state.connections and time.monotonic() - started < 10:
            time.sleep(0.05)
        assert not server.server_state.connections


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"HELLO\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http_are_rejected_in_json(port: int, sent: bytes) -> None:
    with connect(port) as client:
        client.sendall(sent)
        status, content = rejection(everything(client))
        assert status == 400
        assert content.keys() == {"error", "error_type"}


def test_endless_headers_are_rejected(port: int) -> None:
    with connect(port) as client:
        received = b""
        try:
            client.sendall(b"GET / HTTP/1.1\r\n")
            for _ in range(40 * MAX_HEAD_BYTES // 10_000):
                client.sendall(b"X: " + b"a" * 9_995 + b"\r\n")
        except OSError:
            pass
        received = everything(client)
        assert not received or rejection(received)[0] == 431  # a reset may overtake the answer


def test_requests_on_one_connection_are_answered_one_after_another(port: int) -> None:
    with connect(port) as client:
        client.sendall(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        client.sendall(b"GET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert everything(client).count(b"HTTP/1.1 200") == 4
