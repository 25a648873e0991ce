"""Requests to a server that are repeated after temporary failures, and short reasons for errors.

Temporary failures (no response, a truncated body, 429, 5xx) are retried with exponential backoff.
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
MAX_WAIT_S = 60.0  # if a server asks for a longer wait, the request fails

T = TypeVar("T")


class RetryableError(Exception):
    """A request failed. `wait_s` is the minimum wait before a retry; None: a retry would fail too."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def retried(attempt: Callable[[], T], backoff_s: float, attempts: int = ATTEMPTS) -> T:
    """The result of `attempt`, which is retried after temporary failures, with waits that double.

    Raises:
        RetryableError: from the last attempt, or a failure that is not temporary.
    """
    for n_failed in range(attempts - 1):
        try:
            return attempt()
        except RetryableError as failure:
            if failure.wait_s is None or failure.wait_s > MAX_WAIT_S:
                raise
            wait_s = max(failure.wait_s, backoff_s * 2**n_failed)
        time.sleep(wait_s)
    return attempt()


def status_error(status: int, retry_after: str | None) -> RetryableError:
    """The error for a status other than 200: 429 and 5xx are temporary, and the server may ask for a wait."""
    reason = f"the server answered {status} {responses.get(status, '')}".rstrip()
    if status != 429 and status < 500:
        return RetryableError(reason)
    wait_s = _seconds(retry_after)
    return RetryableError(f"{reason} and asks to wait {wait_s:.0f} s" if wait_s > MAX_WAIT_S else reason, wait_s)


def _seconds(retry_after: str | None) -> float:
    """Seconds from now until the time in a Retry-After header, which is a number of seconds or a date.

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
    """The root cause of an exception, on one line."""
    *_, first = causes(error)
    if isinstance(first, TimeoutError) and timeout_s is not None:
        return f"no answer within {timeout_s:g} s"
    words = " ".join(str(getattr(first, "strerror", None) or first).split())
    return words[:200] or type(first).__name__


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and its causes, which the HTTP libraries store in `__cause__`, in `reason` or as an argument.

    `__context__` is not followed, because it leads to whatever exception the caller was handling.
    """
    while error is not None:
        yield error
        candidates = (error.__cause__, getattr(error, "reason", None), *error.args)
        error = next((cause for cause in candidates if isinstance(cause, BaseException)), None)
