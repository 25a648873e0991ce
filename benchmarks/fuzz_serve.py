"""Bodies that nobody should send, to every endpoint of `lasttoken serve`: each must be answered, none with a 500.

    python benchmarks/fuzz_serve.py RUN --bodies 100000 --examples 50

Three sources: the OpenAPI examples of the POST routes, with values, names and bytes changed at random; one body in
`LARGE_EVERY` is 4 MB of what is costly to check (or of what is allowed); and schemathesis, which makes requests that
keep to the OpenAPI schema and requests that break it, for every operation. 504 is let pass: the deadline may end a long
explanation. Several connections send at once, while a process of its own asks for /health every 20 ms and looks at the
server's memory.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import http.client
import json
import multiprocessing
import os
import platform
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from server import memory_mb, started

Schema = Mapping[str, Any]  # of OpenAPI
LEAVES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", " ", "\0",
    "\ud800", "\U0001f600" * 50, "a" * 3000, "naïve", "\u202e", "*", "../../etc/passwd", [], {}, [[]], [None],
    {"": None}, ["a", "b"], [["a", "b", "c"]], "softmax", "BYTES",
]  # fmt: skip
NAMES = (
    "text", "texts", "input", "inputs", "model", "top_k", "parameters", "function_to_apply", "raw_scores", "truncate",
    "outputs", "shape", "data", "name", "datatype", "label", "id", "x",
)  # fmt: skip
TYPES = ("application/json",) * 8 + ("text/plain", "", "application/json; charset=utf-16", "multipart/form-data")


@dataclass(frozen=True)
class Sent:
    """A request."""

    method: str
    path: str  # with the query, percent-encoded
    headers: Mapping[str, str]
    content: bytes


LONGEST = 3_000_000  # bytes of a body that is made longer
LARGE_BYTES = 4_000_000  # as many as the server reads by default
LARGE_EVERY = 200  # bodies
PROBE_S = 0.02  # between two questions for /health
LARGE: Mapping[str, tuple[bytes, bytes, bytes]] = {  # what begins a body, fills it and ends it
    "numbers": (b"[", b"1,", b"1]"),
    "strings": (b"[", b'"a",', b'""]'),
    "lists": (b"[", b"[],", b"[]]"),
    "objects": (b"[", b"{},", b"{}]"),
    "depth": (b"", b"[", b""),
    "depth of objects": (b"", b'{"inputs":', b""),
    "digits": (b"", b"9", b""),
    "escapes": (b'"', b'\\"', b'"'),
    "text": (b'"', b"word ", b'"'),
    "texts": (b"[", b'"' + b"word " * 800 + b'",', b'"word"]'),
    "other scripts": (b"[", '"{}",'.format("字" * 1300).encode(), b'"a"]'),
    "half a string": (b'"', b"a", b""),
    "spaces": (b"", b" ", b"1"),
}

Send = Callable[[Sent], int]  # the answer's status


def changed_bodies(schema: Schema, models: list[str], n: int, seed: int) -> Iterator[Sent]:
    """n requests made of the examples of the POST routes."""
    draw, examples = random.Random(seed), _examples(schema)
    for _ in range(n):
        path, body = draw.choice(examples)
        body = copy.deepcopy(body)
        for _ in range(draw.choice((0, 1, 1, 2, 4))):
            body = _changed(body, draw)
        content = json.dumps(body).encode()
        for _ in range(draw.choice((0, 0, 0, 1, 5))):
            content = _cut(content, draw)
        name = quote(draw.choice([*models, *models, "x", "../x", "*", "ü\n"]), safe="")
        yield Sent("POST", path.replace("{name}", name), {"content-type": draw.choice(TYPES)}, content)


def large_bodies(schema: Schema, models: list[str], n: int, seed: int) -> Iterator[Sent]:
    """n requests of 4 MB, for every POST route and kind in turn."""
    draw = random.Random(seed)
    paths = sorted({path for path, _ in _examples(schema)})
    for _ in range(n):
        path, (begin, fill, end) = draw.choice(paths), draw.choice(list(LARGE.values()))
        name = draw.choice(["inputs", "inputs", "text", "texts", "input", "data"])
        head, tail = f'{{"{name}":'.encode() + begin, end + b"}"
        content = head + fill * ((LARGE_BYTES - len(head) - len(tail)) // len(fill)) + tail
        yield Sent("POST", path.replace("{name}", quote(models[0], safe="")), {"content-type": TYPES[0]}, content)


def _examples(schema: Schema) -> list[tuple[str, Any]]:
    found = []
    for path, operations in schema["paths"].items():
        if "post" in operations:
            body = operations["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
            found += [(path, example) for example in schema["components"]["schemas"][body]["examples"]]
    return found


def _changed(value: Any, draw: random.Random) -> Any:
    """The value with one place in it changed."""
    if draw.random() < 0.3 or not value or not isinstance(value, dict | list):
        many = draw.choice((1, 2, 1001))
        if draw.random() < 0.8 or len(json.dumps(value)) * many > LONGEST:
            return copy.deepcopy(draw.choice(LEAVES))
        return [value] * many
    if isinstance(value, list):
        at = draw.randrange(len(value))
        return [*value[:at], _changed(value[at], draw), *value[at + 1 :]]
    name = draw.choice([*value, draw.choice(NAMES)])
    if draw.random() < 0.2:
        return {key: one for key, one in value.items() if key != name}
    return value | {name: _changed(value.get(name), draw)}


def _cut(content: bytes, draw: random.Random) -> bytes:
    """Some bytes taken out, and others put there."""
    at, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    again = content if len(content) < LONGEST else b""
    put = draw.choice([b"", b"\xff", b"[" * 3000, b'"', b"\xed\xa0\x80", draw.randbytes(8), again])
    return content[:at] + put + content[min(end, at + 8) :]


def from_schema(schema: Schema, models: list[str], n: int, send: Send) -> None:
    """Send n requests that keep to the schema and n that break it, for each operation; those of no body only keep."""
    for found in schemathesis.openapi.from_dict(dict(schema)).get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]
        for mode in GenerationMode if operation.method == "post" else [GenerationMode.POSITIVE]:
            named = operation.as_strategy(generation_mode=mode, path_parameters={"name": models[0]})
            kinds = [operation.as_strategy(generation_mode=mode), *([named] if "{name}" in operation.path else [])]
            _send_each(st.one_of(kinds), n, send)


def _send_each(cases: st.SearchStrategy[Any], n: int, send: Send) -> None:
    @settings(max_examples=n, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def each(case: Any) -> None:
        ready = requests.Request(**case.as_transport_kwargs(base_url="http://127.0.0.1")).prepare()
        content = ready.body.encode() if isinstance(ready.body, str) else ready.body or b""
        headers = {name: value for name, value in ready.headers.items() if name.lower() != "content-length"}
        send(Sent(str(ready.method), ready.path_url, headers, content))

    each()


class Client:
    """One connection to loopback; counts the statuses, and keeps what went wrong."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.statuses: Counter[int] = Counter()
        self.wrong: list[tuple[int, Sent]] = []

    def send(self, sent: Sent) -> int:
        """See `Send`; a request that gets no answer counts as status 0."""
        try:
            self.connection.request(sent.method, sent.path, sent.content, dict(sent.headers))
            answer = self.connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            self.connection.close()
            status = 0
        self.statuses[status] += 1
        if is_wrong(status):
            self.wrong.append((status, sent))
        return status


def send_all(port: int, requests_sent: Iterator[Sent], n_clients: int) -> tuple[Counter[int], list[tuple[int, Sent]]]:
    """Send the requests over several connections at once; the statuses, and what went wrong."""
    lock, clients = threading.Lock(), [Client(port) for _ in range(n_clients)]

    def work(client: Client) -> None:
        while True:
            with lock:
                sent = next(requests_sent, None)
            if sent is None:
                return
            client.send(sent)

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses: Counter[int] = Counter()
    for client in clients:
        statuses.update(client.statuses)
    return statuses, [wrong for client in clients for wrong in client.wrong]


def watch(port: int, pid: int, pipe: Connection) -> None:
    """Ask for /health and look at the server's memory until the pipe says something; answer with what was seen."""
    waits_ms: list[float] = []
    peak_mb = 0.0
    while not pipe.poll(PROBE_S):
        started_at = time.perf_counter()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
            connection.request("GET", "/health")
            connection.getresponse().read()
        waits_ms.append(1000 * (time.perf_counter() - started_at))
        peak_mb = max(peak_mb, memory_mb(pid))
    pipe.send((waits_ms, peak_mb))


@contextlib.contextmanager
def watched(port: int, pid: int) -> Iterator[dict[str, Any]]:
    """What `watch` saw in a process of its own, when the block has ended: waits_ms, peak_mb."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=watch, args=(port, pid, theirs))
    process.start()
    seen: dict[str, Any] = {"idle_mb": memory_mb(pid)}
    yield seen
    ours.send("done")
    seen["waits_ms"], seen["peak_mb"] = ours.recv()
    process.join()


def row(name: str, statuses: Counter[int], seen: Mapping[str, Any]) -> str:
    """A line of the table."""
    waits = sorted(seen["waits_ms"])
    p50, p99, most = (waits[min(len(waits) - 1, int(len(waits) * part))] for part in (0.5, 0.99, 1.0))
    n_wrong = sum(n for status, n in statuses.items() if is_wrong(status))
    memory = f"{seen['idle_mb']:.0f} | {seen['peak_mb']:.0f}"
    told = ", ".join(f"{n:,} × {status}" for status, n in sorted(statuses.items()))
    n = sum(statuses.values())
    return f"| {name} | {n:,} | {n_wrong} | {p50:.1f} | {p99:.1f} | {most:.1f} | {memory} | {told} | {processor()} |"


def processor() -> str:
    """The processor's name, and how many cores there are."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def is_wrong(status: int) -> bool:
    """Whether the server is to blame."""
    return status == 0 or (status >= 500 and status != 504)


def main() -> None:
    """Print a table of what was seen, and exit 1 if an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--examples", type=int, default=50, help="of schemathesis, for an operation and kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=8, help="connections that send at once")
    parser.add_argument("--flood", type=int, default=200, help="bodies of 4 MB, one after another on each connection")
    args = parser.parse_args()
    wrong: list[tuple[int, Sent]] = []
    rows: list[str] = []
    with started([args.run]) as (port, pid):
        schema = requests.get(f"http://127.0.0.1:{port}/openapi.json", timeout=60).json()
        models, single = [args.run.resolve().name], Client(port)
        send_all(port, changed_bodies(schema, models, 200, args.seed + 1), args.clients)  # buffers take their size
        sources: dict[str, Iterator[Sent]] = {
            "changed bodies, some of 4 MB": mixed(schema, models, args.bodies, args.seed),
            "4 MB bodies alone": large_bodies(schema, models, args.flood, args.seed),
        }
        for name, source in sources.items():
            with watched(port, pid) as seen:
                statuses, failed = send_all(port, source, args.clients)
            wrong += failed
            rows.append(row(name, statuses, seen))
        with watched(port, pid) as seen:
            from_schema(schema, models, args.examples, single.send)
        wrong += single.wrong
        rows.append(row("schemathesis", single.statuses, seen))
    print("| bodies | n | 5xx or none | /health p50, ms | p99 | max | memory idle, MB | peak | statuses | processor |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    for status, sent in wrong[:20]:
        print(status, sent.method, sent.path, sent.content[:300])
    raise SystemExit(1 if wrong else 0)


def mixed(schema: Schema, models: list[str], n: int, seed: int) -> Iterator[Sent]:
    """Changed bodies, one in `LARGE_EVERY` of them of 4 MB."""
    large = large_bodies(schema, models, n, seed)
    for index, sent in enumerate(changed_bodies(schema, models, n, seed)):
        yield next(large) if index % LARGE_EVERY == LARGE_EVERY - 1 else sent


if __name__ == "__main__":
    main()
