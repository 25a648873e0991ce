"""`serve --workers` over a bad network: two network namespaces, packets late and lost between them, a rolling restart.

    sudo python benchmarks/netem.py RUN --seconds 20

The clients are in one namespace and the server is in another. What connects them are two TUN devices, and this program
in between: it reads the packets of each, loses 1 % of them and hands the rest over after 50 ms ± 10 ms. That is what
`tc qdisc add … netem delay 50ms 10ms loss 1%` does; it needs no module of the kernel, only /dev/net/tun and root. TCP
on both sides is the kernel's own: lost packets are sent again, and connections are opened slowly.
Half of the clients keep their connections, half open one for each request. Printed: answers, and requests without one.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import heapq
import json
import os
import random
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-c", "from lasttoken.cli.main import main; main()"]
SERVER, CLIENTS = "lasttoken-server", "lasttoken-clients"  # namespaces
ADDRESSES = {SERVER: "10.203.0.1", CLIENTS: "10.203.0.2"}
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
START_S = 120.0
BETWEEN_S = 0.02  # two requests of a client


def tun(name: str) -> int:
    """A TUN device; its packets are read from and written to the descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


def ip(*words: str) -> None:
    """Run ip of iproute2."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def namespace(name: str, device: str) -> int:
    """A network namespace with one TUN device; returns the device's descriptor."""
    other = next(address for space, address in ADDRESSES.items() if space != name)
    ip("netns", "add", name)
    descriptor = tun(device)
    ip("link", "set", device, "netns", name)
    inside = ("netns", "exec", name, "ip")
    ip(*inside, "addr", "add", ADDRESSES[name], "peer", other, "dev", device)
    ip(*inside, "link", "set", device, "up")
    ip(*inside, "link", "set", "lo", "up")
    return descriptor


class Link(threading.Thread):
    """Carries packets between two devices, late, and loses some."""

    def __init__(self, ends: tuple[int, int], delay_s: float, jitter_s: float, loss: float) -> None:
        super().__init__(daemon=True)
        self.ends, self.delay_s, self.jitter_s, self.loss = ends, delay_s, jitter_s, loss
        self.n_carried = self.n_lost = 0
        self.ended = False

    def run(self) -> None:
        """Until `ended`."""
        random_numbers, queue, number = random.Random(1), list[tuple[float, int, int, bytes]](), 0
        last = dict.fromkeys(self.ends, 0.0)
        while not self.ended:
            wait = max(0.0, min(0.1, queue[0][0] - time.monotonic())) if queue else 0.1
            for end in select.select(self.ends, [], [], wait)[0]:
                packet = os.read(end, 65_536)
                if random_numbers.random() < self.loss:
                    self.n_lost += 1
                    continue
                late = self.delay_s + random_numbers.uniform(-self.jitter_s, self.jitter_s)
                other = self.ends[1] if end == self.ends[0] else self.ends[0]
                last[other] = max(last[other], time.monotonic() + late)  # in their order, as on one path
                heapq.heappush(queue, (last[other], number := number + 1, other, packet))
            while queue and queue[0][0] <= time.monotonic():
                _, _, other, packet = heapq.heappop(queue)
                os.write(other, packet)
                self.n_carried += 1


class Client:
    """One client of the clients' process."""

    def __init__(self, port: int, keeps: bool, found: dict[str, Any]) -> None:
        self.port, self.keeps, self.found = port, keeps, found
        content = json.dumps({"text": "You won a prize, call now"}).encode()
        close = "" if keeps else "connection: close\r\n"
        head = f"POST /classify HTTP/1.1\r\nhost: {ADDRESSES[SERVER]}\r\ncontent-type: application/json\r\n{close}"
        self.request = f"{head}content-length: {len(content)}\r\n\r\n".encode() + content
        self.stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, end: float) -> None:
        """Ask until `end`."""
        while time.monotonic() < end:
            started = time.monotonic()
            try:
                status = await self._answer()
            except (OSError, EOFError) as error:
                status, self.stream = type(error).__name__, None
            self.found["statuses"][status] = self.found["statuses"].get(status, 0) + 1
            self.found["kept" if self.keeps else "new"].append(time.monotonic() - started)
            await asyncio.sleep(BETWEEN_S)

    async def _answer(self) -> str:
        reader, writer = self.stream or await asyncio.open_connection(ADDRESSES[SERVER], self.port)
        writer.write(self.request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
        self.stream = None if b"connection: close" in head else (reader, writer)
        if self.stream is None:
            writer.close()
        return head.split(b" ", 2)[1].decode()


async def ask_all(port: int, n_clients: int, seconds: float) -> dict[str, Any]:
    """What all clients found."""
    found: dict[str, Any] = {"statuses": {}, "kept": [], "new": []}
    end = time.monotonic() + seconds
    await asyncio.gather(*(Client(port, number % 2 == 0, found).ask(end) for number in range(n_clients)))
    return found


def inside(name: str, *command: str, **more: Any) -> subprocess.Popen[str]:
    """Start a command in a namespace."""
    return subprocess.Popen(["ip", "netns", "exec", name, *command], text=True, **more)


def measure(args: argparse.Namespace, link: Link) -> None:
    """A server, its clients, and a restart after a third of the time."""
    serve = [*PROGRAM, "serve", str(args.run), "--host", ADDRESSES[SERVER], "--workers", str(args.workers)]
    with tempfile.NamedTemporaryFile("r") as log, open(log.name, "w") as writing:
        server = inside(SERVER, *serve, "--device", "cpu", stderr=writing)
        limit = time.monotonic() + START_S
        while not (found := re.search(r"http://10\.203\.0\.1:(\d+)/", Path(log.name).read_text())):
            if server.poll() is not None or time.monotonic() > limit:
                raise SystemExit(Path(log.name).read_text())
            time.sleep(0.1)
        ask = [sys.executable, __file__, "-", "--port", found[1], "--clients", str(args.clients)]
        clients = inside(CLIENTS, *ask, "--seconds", str(args.seconds), stdout=subprocess.PIPE)
        time.sleep(args.seconds / 3)
        server.send_signal(signal.SIGHUP)
        printed, _ = clients.communicate()
        server.terminate()
        server.wait(60)
        report(json.loads(printed), link, Path(log.name).read_text())


def report(found: dict[str, Any], link: Link, log: str) -> None:
    """Print what the clients found."""
    print(f"packets carried: {link.n_carried:,}, lost: {link.n_lost:,}; delay {link.delay_s * 1000:.0f} ms each way")
    print("replaced while clients asked:", "replacing" in log, "| answers by status:", found["statuses"])
    for kind, name in (("kept", "connections kept"), ("new", "a connection for each")):
        seconds = sorted(found[kind])
        p50, p95 = (1000 * seconds[int(len(seconds) * share)] for share in (0.5, 0.95))
        print(f"{name}: {len(seconds):,} requests, p50 {p50:.0f} ms, p95 {p95:.0f} ms")


def main() -> None:
    """Two namespaces and what is between them; or, for this program itself, the clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.port:
        print(json.dumps(asyncio.run(ask_all(args.port, args.clients, args.seconds))))
        return
    try:
        link = Link((namespace(SERVER, "ltserver0"), namespace(CLIENTS, "ltclients0")), 0.05, 0.01, 0.01)
        link.start()
        measure(args, link)
        link.ended = True
        link.join()
    finally:
        for name in ADDRESSES:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


if __name__ == "__main__":
    main()
