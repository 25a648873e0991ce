"""The seconds that each part of a run takes, and how they are reported.

parts in metrics.json's timing_s:     data load encode trunk tail repeats evaluate ngrams baselines judge report
phases in metrics.json's durations_s: reading (data, load, encode)  features (trunk)  training  judging  report  total
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

PHASES = {
    "reading": ("data", "load", "encode"),
    "features": ("trunk",),
    "training": ("tail", "repeats"),
    "judging": ("evaluate", "ngrams", "baselines", "judge"),
    "report": ("report",),
}  # phase of a run -> the parts that it consists of


@dataclass
class Clock:
    """Adds up the seconds of each part of a run."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to a part."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def leave_out(self, seconds: float) -> None:
        """Do not count so many seconds in which the run did nothing."""
        self.started += seconds

    def durations_s(self) -> dict[str, float]:
        """Seconds of each phase, and in total since the clock was made."""
        phases = {phase: sum(self.seconds.get(part, 0.0) for part in parts) for phase, parts in PHASES.items()}
        return {name: round(s, 3) for name, s in {**phases, "total": time.perf_counter() - self.started}.items()}


def durations_in_words(durations_s: Mapping[str, float], resumed: bool = False) -> str:
    """A sentence about the duration of a run, in minutes as chapter 6 prints them.

    >>> durations_in_words({"reading": 1.2, "features": 30.0, "training": 300.0, "judging": 3.0, "total": 339.0})
    'finished in 5.65 minutes (reading 0.02, features 0.50, training 5.00, judging 0.05)'
    """
    phases = ", ".join(f"{name} {s / 60:.2f}" for name, s in durations_s.items() if name != "total")
    since = " since it was resumed" if resumed else ""
    return f"finished in {durations_s['total'] / 60:.2f} minutes{since} ({phases})"
