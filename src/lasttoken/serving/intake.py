"""Request bodies: read within limits, their values counted before parsing, long ones parsed off the event loop.

    bytes ─► too many? 413 ─► values counted, too many? 413 ─► JSON ─► fields ─► an interface's body
             too slow? 408    (strings skipped)               └── the first error ends it: 422 ──┘

Without the count, a few megabytes of wrongly typed values would take minutes and gigabytes to report, one error for
each value. Counting costs as much as copying, and leaves a bounded number of values to parse. Bodies longer than
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
from lasttoken.serving.rejections import CLIENT_GONE, CLOSING, RejectedError

SHORT_BYTES = 16_384  # parsed on the event loop: waking a thread would take longer
WINDOW_BYTES = 262_144  # counted at a time, so that other threads get the GIL in between
QUOTES_A_VALUE = 4  # a value is at most one string with one name
UNION_TAGS = ("str", "list[str]", "list[list[str]]")  # pydantic's names for the types that a field of texts accepts
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Body = TypeVar("Body", bound=BaseModel)


class Intake:
    """Reads the bodies of one server."""

    def __init__(self, limits: Limits, pool: Executor) -> None:
        """`pool`: threads that parse long bodies."""
        self.limits, self._pool = limits, pool
        self._held_bytes = 0  # of long bodies, until they are answered

    @asynccontextmanager
    async def body(self, request: Request, kind: type[Body]) -> AsyncIterator[Body]:
        """The request's body; a long one counts towards the limit of all long bodies until the block ends.

        Raises:
            RejectedError: 408, 413, 422 or 429, with the reason.
        """
        if not _is_json(request.headers.get("content-type", "")):
            raise RejectedError(422, "send the body as JSON, with the header Content-Type: application/json")
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
                        raise RejectedError(413, too_long(self.limits))
                    held.grow(n_bytes)
                    parts.append(part)
        except TimeoutError as error:
            sentence = f"the body did not arrive within {self.limits.body_s:g} s; send it faster, or less at a time"
            raise RejectedError(408, sentence, CLOSING) from error
        except ClientDisconnect as error:
            raise RejectedError(CLIENT_GONE, "the client has disconnected") from error
        return b"".join(parts)


class _Held:
    """The bytes that one long body counts towards the limit of all long bodies."""

    def __init__(self, intake: Intake) -> None:
        self.intake, self.n_bytes = intake, 0

    def grow(self, n_bytes: int) -> None:
        """Count a body that has `n_bytes` now; short bodies are not counted."""
        if n_bytes <= SHORT_BYTES:
            return
        self.intake._held_bytes += n_bytes - self.n_bytes
        self.n_bytes = n_bytes
        if self.intake._held_bytes > self.intake.limits.held_bytes:
            sentence = "too many long requests are being answered; try again in 1 s, or send fewer texts at a time"
            raise RejectedError(429, sentence, {"retry-after": "1"})

    def release(self) -> None:
        """Stop counting the body, because its request is answered."""
        self.intake._held_bytes -= self.n_bytes
        self.n_bytes = 0


def too_long(limits: Limits) -> str:
    """The sentence for a body of too many bytes."""
    return f"the body is longer than {limits.body_bytes:,} bytes; send fewer texts at a time"


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def parse(content: bytes, kind: type[Body], limits: Limits) -> Body:
    """Parse a body and check it against `kind`.

    Raises:
        RejectedError: 413 for more values than `limits` allow; 422 for invalid JSON, or fields that are not `kind`'s.
    """
    content = content.removeprefix(BYTE_ORDER_MARK)
    if not holds_at_most(content, limits.values):
        sentence = f"the body holds more than {limits.values:,} values; send at most {limits.texts:,} texts at a time"
        raise RejectedError(413, sentence)
    try:
        data = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        half = "; half a surrogate pair is not a character" if "surrogate" in str(error) or "hex" in str(error) else ""
        raise RejectedError(422, f"the body is not valid JSON in UTF-8: {error}{half}") from error
    if not isinstance(data, dict):
        raise RejectedError(422, "the body must be a JSON object, such as the examples at /docs")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise RejectedError(422, _first_error(error)) from error


def _first_error(error: ValidationError) -> str:
    """The sentence for the first invalid field.

    A field that accepts several types (a text, a list of texts, …) has one error for each; the one that got furthest
    into the value belongs to the type that the client meant.
    """
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    path = errors[0]["loc"]
    n_shared = next((index for index, part in enumerate(path) if part in UNION_TAGS), len(path))
    of_field = [details for details in errors if details["loc"][:n_shared] == path[:n_shared]]
    deepest = max(of_field, key=lambda details: len(details["loc"]))
    where = ".".join(str(part)[:60] for part in deepest["loc"][:6] if part not in UNION_TAGS)
    if deepest["type"] == "extra_forbidden":
        return f"the field {where!r} is not supported; leave it out"
    return f"{where}: {deepest['msg'].lower()}"


def holds_at_most(content: bytes, n_values: int) -> bool:
    """Whether JSON holds at most about `n_values` values: counts commas and opening brackets outside strings.

    Invalid JSON is counted in the same way up to its first error, where a parser stops.

    >>> holds_at_most(b'{"text": "a, b, [c"}', 1), holds_at_most(b"[1, [2], 3]", 3)
    (True, False)
    """
    n_marks, n_quotes, in_string, start = 0, 0, False, 0
    while start < len(content):
        window = content[start : start + WINDOW_BYTES]
        n_slashes = len(window) - len(window.rstrip(b"\\"))
        if n_slashes % 2:  # the window ends within an escape
            window = content[start : start + len(window) + 1]
        start += len(window)
        pieces = window.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = b"".join(pieces[in_string::2])
        n_marks += outside.count(b",") + outside.count(b"[") + outside.count(b"{")
        n_quotes += len(pieces) - 1
        in_string = n_quotes % 2 == 1
        if n_marks > n_values or n_quotes > QUOTES_A_VALUE * (n_values + 1):
            return False
    return True
