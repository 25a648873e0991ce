"""The clock of a run: parts add up, and phases consist of parts."""

from __future__ import annotations

import pytest

from lasttoken.runs.clock import PHASES, Clock, durations_in_words


def test_parts_add_up_to_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 3.0, 5.0, 6.0, 7.0, 11.0, 20.0])  # three parts, now
    monkeypatch.setattr("lasttoken.runs.clock.time.perf_counter", lambda: next(times))
    clock = Clock(started=0.0)
    for name in ("data", "tail", "data"):
        with clock.part(name):
            pass
    assert clock.seconds == {"data": 6.0, "tail": 1.0}
    durations_s = clock.durations_s()
    assert durations_s == {**dict.fromkeys(PHASES, 0.0), "reading": 6.0, "training": 1.0, "total": 20.0}


def test_a_resumed_run_says_since_when() -> None:
    assert "since it was resumed" in durations_in_words({"reading": 1.0, "total": 2.0}, resumed=True)
