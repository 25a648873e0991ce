"""`lasttoken serve` under load, against a plain FastAPI app around transformers' pipeline; overload; a shared trunk.

    python benchmarks/server.py RUN SMSSpamCollection --seconds 60
    python benchmarks/server.py RUN SMSSpamCollection --seconds 60 --overload
    python benchmarks/server.py RUN SMSSpamCollection --seconds 60 --shared-trunk

Each server is a process of its own, and so are its clients (load.py): 64 connections that ask for a text at a time, on
loopback, sharing the machine's cores with the server. Both sides have the same weights in float32, get the same bytes
(the Hugging Face task), and write no access log to a file; the peer is measured with an `async def` route and with a
`def` route, whose calls run in threads, and the quicker counts. --overload sends requests of many texts at ten times
the rate that was measured just before, whether answered or not. --shared-trunk asks three classifiers for each text: in
one server, and in three; the run is served under three names.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from lasttoken.core.columns import SPLIT_COLUMNS
from lasttoken.data.files import read_examples

HERE = Path(__file__).parent
PROGRAM = [sys.executable, "-c", "from lasttoken.cli.main import main; main()"]
PEERS = {"FastAPI + pipeline, async def": "async", "FastAPI + pipeline, def": "threads"}
START_S = 120
TEXTS_AT_ONCE = 32  # in a request of --overload, so that its clients can send ten times what is computed
OVERLOAD = 10
NAMES = ("first", "second", "third")
WARM_S = 1.0

Found = dict[str, Any]  # what load.py tells


def serve_peer(run: Path, port: int, kind: str) -> None:
    """The plain app, until it is ended."""
    import uvicorn
    from fastapi import FastAPI
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(run), device="cpu", top_k=None)
    length = json.loads((run / "config.json").read_text("utf-8"))["lasttoken"]["max_length"]
    app = FastAPI()

    def answer(body: dict[str, Any]) -> Any:
        return classify([body["inputs"]], truncation=True, max_length=length)

    async def answer_on_the_loop(body: dict[str, Any]) -> Any:
        return answer(body)

    app.post("/")(answer_on_the_loop if kind == "async" else answer)
    uvicorn.run(app, port=port, access_log=False, log_level="error")


@contextlib.contextmanager
def started(runs: Sequence[Path], peer: str | None = None) -> Iterator[tuple[int, int]]:
    """A server's port and process id, from when it listens to when the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ours = [*PROGRAM, "serve", *map(str, runs), "--port", str(port), "--device", "cpu", "--precision", "float32"]
    theirs = [sys.executable, __file__, str(runs[0]), "-", "--peer", f"{peer}", "--port", str(port)]
    process = subprocess.Popen(theirs if peer else ours, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + START_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > limit:
                raise SystemExit(f"the server did not start: {' '.join(theirs if peer else ours)}")
            time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(START_S)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def load(
    ports: Sequence[int], path: str, bodies: Sequence[Any], clients: int, seconds: float, rate: float | None = None
) -> Found:
    """What a process of clients finds; each asks all ports at once. `rate`: requests a second, answered or not."""
    job = {"ports": list(ports), "path": path, "bodies": list(bodies), "clients": clients}
    command = [sys.executable, str(HERE / "load.py")]
    text = json.dumps(job | {"seconds": seconds, "rate": rate})
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    found: Found = json.loads(done.stdout)
    return found


def warmed(ports: Sequence[int], path: str, bodies: Sequence[Any], clients: int, seconds: float) -> Found:
    """The same, after a second that is not counted."""
    load(ports, path, bodies, clients, WARM_S)
    return load(ports, path, bodies, clients, seconds)


def row(name: str, rounds: Sequence[Found], against: float | None) -> str:
    """A line of the table, of medians."""
    rate, p50, p99 = (median(found[key] for found in rounds) for key in ("per_s", "p50_ms", "p99_ms"))
    statuses: dict[str, int] = {}
    for found in rounds:
        for status, n in found["statuses"].items():
            statuses[status] = statuses.get(status, 0) + n
    told = ", ".join(f"{n:,} × {status}" for status, n in sorted(statuses.items()))
    ratio = "" if against is None else f"{rate / against:.2f}"
    return f"| {name} | {rate:,.0f} | {p50:.1f} | {p99:.1f} | {told} | {ratio} |"


def heading(text: str) -> None:
    """Print what is measured, and the table's head."""
    print(f"{text}; {os.cpu_count()} {platform.machine()} cores, shared with the clients\n")
    print("| server | answers/s | p50, ms | p99, ms | statuses | times as many |\n|---|---|---|---|---|---|")


def against_peer(run: Path, texts: Sequence[str], clients: int, seconds: float, times: int) -> None:
    """Ours and the peers in turn."""
    sides: dict[str, str | None] = {**PEERS, "lasttoken serve": None}
    bodies = [{"inputs": text} for text in texts]
    rounds: dict[str, list[Found]] = {name: [] for name in sides}
    for _ in range(times):
        for name, peer in sides.items():
            with started([run], peer) as (port, _pid):
                rounds[name].append(warmed([port], "/", bodies, clients, seconds))
    best = max(median(found["per_s"] for found in rounds[name]) for name in PEERS)
    heading(f"{clients} clients, {seconds:g} s, medians of {times}")
    for name, found in rounds.items():
        print(row(name, found, best))


def memory_mb(pid: int) -> float:
    """What a process holds, of Linux's /proc."""
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def overload(run: Path, texts: Sequence[str], clients: int, seconds: float) -> None:
    """Ten times the rate that was measured, then the usual load again."""
    starts = range(0, max(1, len(texts) - TEXTS_AT_ONCE), TEXTS_AT_ONCE)
    bodies = [{"texts": list(texts[at : at + TEXTS_AT_ONCE])} for at in starts]
    with started([run]) as (port, pid):
        usual = warmed([port], "/classify", bodies, 8, max(3.0, seconds / 10))
        load([port], "/classify", bodies, clients, 2.0, OVERLOAD * usual["per_s"])  # buffers take their size
        before = memory_mb(pid)
        found = load([port], "/classify", bodies, clients, seconds, OVERLOAD * usual["per_s"])
        after = memory_mb(pid)
        again = load([port], "/classify", bodies, 8, max(3.0, seconds / 10))
    heading(f"requests of {TEXTS_AT_ONCE} texts, {OVERLOAD} times what is answered in a second, {seconds:g} s")
    print(row("usual load", [usual], usual["per_s"]))
    print(row("overload", [found], usual["per_s"]))
    print(row("usual load again", [again], usual["per_s"]))
    print(
        f"\nsent: {found['sent'] / seconds:,.0f} requests/s, {found['sent'] / seconds / usual['per_s']:.1f} times",
        end="",
    )
    print(f" the usual; not sent for want of a free connection: {found['unsent']:,}")
    print(f"answered 200 a second: {found['statuses'].get('200', 0) / seconds:,.0f}; without an answer: ", end="")
    print(f"{found['sent'] - sum(found['statuses'].values()):,}; memory: {before:.0f} MB before, {after:.0f} MB after")


def shared_trunk(run: Path, texts: Sequence[str], clients: int, seconds: float, times: int, folder: Path) -> None:
    """Three classifiers in one server and in three."""
    runs = [Path(shutil.copytree(run, folder / name)) for name in NAMES]
    sides: dict[str, list[Found]] = {"three servers": [], "one server, one trunk": []}
    for _ in range(times):
        with contextlib.ExitStack() as stack:
            ports = [stack.enter_context(started([one]))[0] for one in runs]
            bodies = [{"text": text} for text in texts]
            sides["three servers"].append(warmed(ports, "/classify", bodies, clients, seconds))
        with started(runs) as (port, _pid):
            bodies = [{"text": text, "model": "*"} for text in texts]
            sides["one server, one trunk"].append(warmed([port], "/classify", bodies, clients, seconds))
    heading(f"texts answered by all three, {clients} clients, {seconds:g} s, medians of {times}")
    first = median(found["per_s"] for found in sides["three servers"])
    for name, found in sides.items():
        print(row(name, found, first))


def main() -> None:
    """One of the three; or, for this program itself, the peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path, help="a file with a column text, or label<TAB>text")
    parser.add_argument("--clients", type=int, help="connections; default 64, with --overload 512")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--texts", type=int, default=2000, help="different texts that are sent")
    parser.add_argument("--overload", action="store_true")
    parser.add_argument("--shared-trunk", action="store_true")
    parser.add_argument("--peer", choices=list(PEERS.values()), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        serve_peer(args.run, args.port, args.peer)
        return
    texts = read_examples(args.data, SPLIT_COLUMNS, labelled=False).texts[: args.texts]
    if args.overload:
        overload(args.run, texts, args.clients or 512, args.seconds)
    elif args.shared_trunk:
        with tempfile.TemporaryDirectory() as folder:
            shared_trunk(args.run, texts, args.clients or 64, args.seconds, args.times, Path(folder))
    else:
        against_peer(args.run, texts, args.clients or 64, args.seconds, args.times)


if __name__ == "__main__":
    main()
