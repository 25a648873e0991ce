"""Asking a server again, and saying in a few words why it did not work.

Failures that may pass (no answer, a cut body, 429, 5xx) are tried again with growing waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import responses
from typing import TypeVar

TIMEOUT_S = 20.0  # without a single byte from the server
ATTEMPTS = 4
BACKOFF_S = 1.0  # waits of 1, 2 and 4 s between the attempts
LONGEST_WAIT_S = 60.0  # a server that asks for more is not waited for

T = TypeVar("T")


class RetryableError(Exception):
    """Why a request failed. `wait_s` None: it would fail again; else the least wait before another attempt."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def retried(attempt: Callable[[], T], backoff_s: float) -> T:
    """The result of `attempt`, called again after failures that may pass, with waits that double."""
    for tried in range(ATTEMPTS - 1):
        try:
            return attempt()
        except RetryableError as failure:
            if failure.wait_s is None or failure.wait_s > LONGEST_WAIT_S:
                raise
            wait_s = max(failure.wait_s, backoff_s * 2**tried)
        time.sleep(wait_s)
    return attempt()


def refusal(status: int, retry_after: str | None) -> RetryableError:
    """What a status other than 200 means: 429 and 5xx may pass, after the time that the server asks for."""
    reason = f"the server answered {status} {responses.get(status, '')}".rstrip()
    if status != 429 and status < 500:
        return RetryableError(reason)
    wait_s = _seconds(retry_after)
    return RetryableError(f"{reason} and asks to wait {wait_s:.0f} s" if wait_s > LONGEST_WAIT_S else reason, wait_s)


def _seconds(retry_after: str | None) -> float:
    """A Retry-After header, a number of seconds or a date, as seconds from now.

    >>> _seconds("120"), _seconds(None), _seconds("Wed, 21 Oct 2015 07:28:00 GMT"), _seconds("soon")
    (120.0, 0.0, 0.0, 0.0)
    """
    if retry_after is None:
        return 0.0
    try:
        if retry_after.strip().isascii() and retry_after.strip().isdigit():
            return float(retry_after)
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # not a date, or one without a time zone
        return 0.0


def why(error: BaseException, timeout_s: float | None = None) -> str:
    """The first cause of an exception in a few words on one line."""
    *_, first = causes(error)
    if isinstance(first, TimeoutError) and timeout_s is not None:
        return f"no answer within {timeout_s:g} s"
    words = " ".join(str(getattr(first, "strerror", None) or first).split())
    return words[:200] or type(first).__name__


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and its causes, as the HTTP libraries keep them: `from`, `reason` or an argument.

    Not `__context__`: it ends in whatever the caller was handling when it called us.
    """
    while error is not None:
        yield error
        kept = (error.__cause__, getattr(error, "reason", None), *error.args)
        error = next((cause for cause in kept if isinstance(cause, BaseException)), None)
