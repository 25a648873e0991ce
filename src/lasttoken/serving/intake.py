"""Bodies: read within limits, counted before they are parsed, and checked away from the event loop.

    bytes ─► too many? 413 ─► values counted, too many? 413 ─► JSON ─► fields ─► a body of bodies.py
             too slow? 408    (strings skipped)               └── the first error ends it: 422 ──┘

A few megabytes of wrongly typed values would otherwise take minutes and gigabytes to describe, one error for each.
Counting is as cheap as copying, and what remains to be parsed has a bounded number of values. Bodies longer than
`SHORT_BYTES` are parsed in a thread, and all of them together hold a bounded number of bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect

from lasttoken.serving.limits import Limits
from lasttoken.serving.refusals import CLIENT_GONE, CLOSING, RefusedError

SHORT_BYTES = 16_384  # parsed where it arrives: a thread would take longer to be woken
WINDOW_BYTES = 262_144  # counted at a time, so that other threads get their turn
QUOTES_A_VALUE = 4  # a value is at most one string with one name
UNION_TAGS = ("str", "list[str]", "list[list[str]]")  # pydantic's names for the ways in which texts can be sent
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Body = TypeVar("Body", bound=BaseModel)


class Intake:
    """Reads the bodies of one server."""

    def __init__(self, limits: Limits, pool: Executor) -> None:
        """`pool`: threads for what would hold the event loop up."""
        self.limits, self._pool = limits, pool
        self._held_bytes = 0  # of long bodies, until they are answered

    @asynccontextmanager
    async def body(self, request: Request, kind: type[Body]) -> AsyncIterator[Body]:
        """The request's body, held against the limit of all bodies until the block ends.

        Raises:
            RefusedError: 408, 413, 422 or 429, and why.
        """
        if not _is_json(request.headers.get("content-type", "")):
            raise RefusedError(422, "send the body as JSON, with the header Content-Type: application/json")
        held = _Held(self)
        try:
            content = await self._read(request, held)
            if len(content) <= SHORT_BYTES:
                yield parse(content, kind, self.limits)
            else:
                loop = asyncio.get_running_loop()
                yield await loop.run_in_executor(self._pool, parse, content, kind, self.limits)
        finally:
            held.release()

    async def _read(self, request: Request, held: _Held) -> bytes:
        parts: list[bytes] = []
        n_bytes = 0
        try:
            async with asyncio.timeout(self.limits.body_s):
                async for part in request.stream():
                    n_bytes += len(part)
                    if n_bytes > self.limits.body_bytes:
                        raise RefusedError(413, too_long(self.limits))
                    held.grow(n_bytes)
                    parts.append(part)
        except TimeoutError as error:
            sentence = f"the body did not arrive within {self.limits.body_s:g} s; send it faster, or less at a time"
            raise RefusedError(408, sentence, CLOSING) from error
        except ClientDisconnect as error:
            raise RefusedError(CLIENT_GONE, "the client went away") from error
        return b"".join(parts)


class _Held:
    """What one long body counts for."""

    def __init__(self, intake: Intake) -> None:
        self.intake, self.n_bytes = intake, 0

    def grow(self, n_bytes: int) -> None:
        """The body has `n_bytes` now; short bodies are not counted."""
        if n_bytes <= SHORT_BYTES:
            return
        self.intake._held_bytes += n_bytes - self.n_bytes
        self.n_bytes = n_bytes
        if self.intake._held_bytes > self.intake.limits.held_bytes:
            sentence = "too many long requests are under way; try again in 1 s, or send fewer texts at a time"
            raise RefusedError(429, sentence, {"retry-after": "1"})

    def release(self) -> None:
        """The request is answered."""
        self.intake._held_bytes -= self.n_bytes
        self.n_bytes = 0


def too_long(limits: Limits) -> str:
    """The sentence for a body of too many bytes."""
    return f"the body is longer than {limits.body_bytes:,} bytes; send fewer texts at a time"


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def parse(content: bytes, kind: type[Body], limits: Limits) -> Body:
    """A body as `kind`.

    Raises:
        RefusedError: 413 for more values than `limits` allow; 422 for what is not JSON, or not of that kind.
    """
    content = content.removeprefix(BYTE_ORDER_MARK)
    if not holds_at_most(content, limits.values):
        sentence = f"the body holds more than {limits.values:,} values; send at most {limits.texts:,} texts at a time"
        raise RefusedError(413, sentence)
    try:
        data = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        half = "; half a surrogate pair is not a character" if "surrogate" in str(error) or "hex" in str(error) else ""
        raise RefusedError(422, f"the body is not valid JSON in UTF-8: {error}{half}") from error
    if not isinstance(data, dict):
        raise RefusedError(422, "the body must be a JSON object, such as the examples at /docs")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
    loc = errors[0]["loc"]
    tag = next((index for index, part in enumerate(loc) if part in UNION_TAGS), len(loc))
    ways = [one for one in errors if one["loc"][:tag] == loc[:tag]]  # in which the same field can be sent
    nearest = max(ways, key=lambda one: len(one["loc"]))
    where = ".".join(str(part)[:60] for part in nearest["loc"][:6] if part not in UNION_TAGS)
    if nearest["type"] == "extra_forbidden":
        raise RefusedError(422, f"the field {where!r} is not supported; leave it out")
    raise RefusedError(422, f"{where}: {nearest['msg'].lower()}")


def holds_at_most(content: bytes, n_values: int) -> bool:
    """Whether JSON holds at most about `n_values` values: commas and opening brackets outside strings are counted.

    What is not valid JSON is counted alike up to its first mistake, where a parser stops.

    >>> holds_at_most(b'{"text": "a, b, [c"}', 1), holds_at_most(b"[1, [2], 3]", 3)
    (True, False)
    """
    n_found, n_quotes, inside, start = 0, 0, False, 0
    while start < len(content):
        window = content[start : start + WINDOW_BYTES]
        n_slashes = len(window) - len(window.rstrip(b"\\"))
        if n_slashes % 2:  # half of an escape
            window = content[start : start + len(window) + 1]
        start += len(window)
        pieces = window.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = b"".join(pieces[inside::2])
        n_found += outside.count(b",") + outside.count(b"[") + outside.count(b"{")
        n_quotes += len(pieces) - 1
        inside = n_quotes % 2 == 1
        if n_found > n_values or n_quotes > QUOTES_A_VALUE * (n_values + 1):
            return False
    return True
