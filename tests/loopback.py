"""Servers on the loopback address that answer whole, cut, late or not at all; and processes killed while they fetch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Answer:
    """What a server sends: `announced` is its Content-Length where it is not the body's."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None
    delay_s: float = 0.0  # before anything is sent
    chunk_bytes: int | None = None  # sent piece by piece
    pause_s: float = 0.0  # after each piece


@dataclass
class Server:
    """A loopback server that answers by `answer(method, path)` and keeps what it was asked."""

    address: str
    asked: list[tuple[str, str]] = field(default_factory=list)
    user_agents: list[str] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(answer: Callable[[str, str], Answer]) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append((self.command, self.path))
            server.user_agents.append(self.headers.get("User-Agent", ""))
            server.arrived.set()
            with suppress(ConnectionError):  # the client is gone: it gave up, or was killed
                self.send(answer(self.command, self.path))

        do_HEAD = do_GET  # noqa: N815

        def send(self, found: Answer) -> None:
            time.sleep(found.delay_s)
            self.send_response(found.status)
            announced = len(found.body) if found.announced is None else found.announced
            for name, value in ({"Content-Length": str(announced)} | found.headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            step = found.chunk_bytes or len(found.body) or 1
            for start in range(0, len(found.body), step):
                self.wfile.write(found.body[start : start + step])
                self.wfile.flush()
                time.sleep(found.pause_s)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = Server(f"http://127.0.0.1:{http.server_address[1]}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def in_turn(*answers: Answer) -> Callable[[str, str], Answer]:
    """The answers one after another, the last for ever."""
    left = list(answers)
    return lambda method, path: left.pop(0) if len(left) > 1 else left[0]


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


# ---- data sets


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def start_fetching(script: str, cache: Path, endpoint: str) -> subprocess.Popen[str]:
    settings = {"LASTTOKEN_CACHE": str(cache), "HF_HUB_CACHE": str(cache / "hub"), "HF_ENDPOINT": endpoint}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | settings
    return subprocess.Popen(
        [sys.executable, "-c", script], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run_to_the_end(script: str, cache: Path, endpoint: str) -> Path:
    stdout, stderr = start_fetching(script, cache, endpoint).communicate(timeout=30)
    assert stderr == ""
    return Path(stdout.strip())


def kill_after(server: Server, process: subprocess.Popen[str], delay_s: float) -> None:
    """Kill -9, `delay_s` after the first request arrived."""
    server.arrived.wait(timeout=30)
    time.sleep(delay_s)
    process.kill()
    process.communicate()
    server.arrived.clear()
