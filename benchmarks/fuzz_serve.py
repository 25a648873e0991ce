"""Bodies that nobody should send, to every endpoint of `lasttoken serve`: each must be answered, none with a 500.

    python benchmarks/fuzz_serve.py RUN --bodies 10000 --examples 50

Two sources: the OpenAPI examples of the POST routes, with values, names and bytes changed at random; and schemathesis,
which makes requests that keep to the OpenAPI schema and requests that break it, for every operation. 504 is let pass:
the deadline may end a long explanation.
"""

from __future__ import annotations

import argparse
import copy
import http.client
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from server import started

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


def is_wrong(status: int) -> bool:
    """Whether the server is to blame."""
    return status == 0 or (status >= 500 and status != 504)


def main() -> None:
    """Print the statuses, and exit 1 if one was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--examples", type=int, default=50, help="of schemathesis, for an operation and kind")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with started([args.run]) as (port, _pid):
        schema = requests.get(f"http://127.0.0.1:{port}/openapi.json", timeout=60).json()
        models, client = [args.run.resolve().name], Client(port)
        for sent in changed_bodies(schema, models, args.bodies, args.seed):
            client.send(sent)
        print(f"{args.bodies:,} changed bodies: {dict(sorted(client.statuses.items()))}", flush=True)
        from_schema(schema, models, args.examples, client.send)
        print(f"and schemathesis: {dict(sorted(client.statuses.items()))}")
    for status, sent in client.wrong[:20]:
        print(status, sent.method, sent.path, sent.content[:300])
    raise SystemExit(1 if client.wrong else 0)


if __name__ == "__main__":
    main()
