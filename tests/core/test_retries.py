"""Retries: which failures are repeated, how long the waits are, and the reasons in messages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from lasttoken.core.retries import ATTEMPTS, RetryableError, causes, retried, status_error, why


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits, which take no time."""
    slept: list[float] = []
    monkeypatch.setattr("lasttoken.core.retries.time.sleep", slept.append)
    return slept


def test_a_temporary_failure_is_retried_with_doubling_waits(waits: list[float]) -> None:
    failures = iter([RetryableError("busy", 0.0), RetryableError("busy", 5.0), None])

    def attempt() -> str:
        failure = next(failures)
        if failure is not None:
            raise failure
        return "done"

    assert retried(attempt, 1.0) == "done"
    assert waits == [1.0, 5.0], "the server's wait is the least"


def test_attempts_are_limited(waits: list[float]) -> None:
    n_calls = 0

    def attempt() -> None:
        nonlocal n_calls
        n_calls += 1
        raise RetryableError("busy", 0.0)

    with pytest.raises(RetryableError, match="busy"):
        retried(attempt, 1.0)
    assert n_calls == ATTEMPTS
    assert waits == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("wait_s", [None, 61.0])
def test_a_permanent_failure_or_a_long_wait_is_not_retried(wait_s: float | None, waits: list[float]) -> None:
    def attempt() -> None:
        raise RetryableError("gone", wait_s)

    with pytest.raises(RetryableError, match="gone"):
        retried(attempt, 1.0)
    assert waits == []


@pytest.mark.parametrize(
    ("status", "is_temporary"), [(404, False), (403, False), (429, True), (500, True), (503, True)]
)
def test_only_429_and_server_errors_are_temporary(status: int, is_temporary: bool) -> None:
    error = status_error(status, None)
    assert str(status) in str(error)
    assert (error.wait_s is not None) == is_temporary


def test_retry_after_is_seconds_or_a_date() -> None:
    assert status_error(503, "7").wait_s == 7.0
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert status_error(503, later).wait_s == pytest.approx(30, abs=3)
    assert "100 s" in str(status_error(503, "100")), "a long wait is named"


def test_the_root_cause_is_reported() -> None:
    inner = OSError(111, "Connection refused")
    outer = RuntimeError(inner)
    assert list(causes(outer)) == [outer, inner]
    assert why(outer) == "Connection refused"
    assert why(TimeoutError(), 20.0) == "no answer within 20 s"
    assert why(ValueError()) == "ValueError"
