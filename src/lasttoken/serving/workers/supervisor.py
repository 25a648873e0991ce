"""The parent: starts n workers, restarts those that die, replaces all on SIGHUP, and ends all on SIGTERM and Ctrl-C.

    generation 0:  ready  ready             SIGHUP: the runs are copied again, that is generation 1
    generation 1:                starting   one more worker starts while the old ones serve
    generation 0:  ready  draining          it is ready: an old one drains, then the next one starts
    generation 1:                ready

Workers of one generation serve the same copy of the runs, also those that replace a dead one. A generation whose first
worker cannot start is given up, and the old one goes on. uvicorn has a supervisor too; it cannot limit restarts, and
reads no signal while it waits for a worker.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lasttoken.core.errors import FailedError, LastTokenError
from lasttoken.serving.workers.process import WorkerProcess
from lasttoken.serving.workers.signals import Signals

POLL_S = 0.5
STEADY_S = 60.0  # without a death: the count begins again
MAX_DEATHS = 8  # one after the other; then the server ends
MAX_DELAY_S = 30.0


@dataclass(frozen=True)
class Hooks:
    """What the supervisor leaves to others."""

    start: Callable[[int, int], WorkerProcess]  # a worker of this id and generation
    on_first: Callable[[WorkerProcess], None]  # the first worker is ready; may raise what forbids more
    on_open: Callable[[WorkerProcess], None]  # all are ready for the first time: the socket listens
    on_gone: Callable[[int], None]  # the worker of this id has ended
    copy_runs: Callable[[int], None]  # for this generation; raises what is wrong with a run
    drop_runs: Callable[[int], None]  # of a generation without workers
    say: Callable[[str], None]


@dataclass
class Supervisor:
    """The workers of one server."""

    n_workers: int
    hooks: Hooks
    workers: list[WorkerProcess] = field(default_factory=list)
    generation: int = 0
    is_open: bool = False
    n_deaths: int = 0  # since the last `STEADY_S` without one
    _newest: int = 0  # generation that was made
    _copied: set[int] = field(default_factory=lambda: {0})  # generations whose runs are there
    _last_death: float = 0.0
    _next_start: float = 0.0
    _stop_signal: int | None = None
    _error: LastTokenError | None = None

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C, then let the workers answer what they have.

        Raises:
            LastTokenError: the first worker could not start, or workers died one after the other.
        """
        with Signals() as signals:
            try:
                while self.workers or not self._is_stopping:
                    self._reconcile()
                    self._wait(signals)
            finally:
                for worker in self.workers:
                    worker.process.kill()
        if self._error:
            raise self._error
        if self._stop_signal == signal.SIGINT:
            signal.raise_signal(signal.SIGINT)  # as uvicorn does after Ctrl-C

    @property
    def _is_stopping(self) -> bool:
        return self._stop_signal is not None or self._error is not None

    # ------------------------------------------------------------------ what happens

    def _wait(self, signals: Signals) -> None:
        """Wait for a signal, a message or a death, and take note of it."""
        others: list[Any] = [worker.process.sentinel for worker in self.workers]
        others += [worker.control for worker in self.workers]
        for number in signals.wait(others, POLL_S):
            self._on_signal(number)
        for worker in list(self.workers):
            if not worker.poll():
                self.workers.remove(worker)
                self.hooks.on_gone(worker.worker_id)
                self._on_gone(worker)
        unused = self._copied - {worker.generation for worker in self.workers} - {self.generation}
        for generation in unused:
            self.hooks.drop_runs(generation)
        self._copied -= unused

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            if self.is_open and not self._is_stopping:
                self._next_generation()
        elif self._stop_signal == signal.SIGINT == number:  # Ctrl-C again: at once
            for worker in self.workers:
                worker.process.kill()
        else:
            self._stop_signal = number
            self._end_all()

    def _end_all(self) -> None:
        for worker in self.workers:
            worker.end()

    def _next_generation(self) -> None:
        try:
            self.hooks.copy_runs(self._newest + 1)
        except LastTokenError as error:
            self.hooks.say(f"the workers are not replaced: {error}")
            return
        self._newest += 1
        self._copied.add(self._newest)
        self.generation = self._newest
        self._next_start = 0.0
        self.hooks.say(f"replacing {self.n_workers} workers")

    def _on_gone(self, worker: WorkerProcess) -> None:
        if self._is_stopping or worker.is_stopping:
            return
        error = worker.error or FailedError(f"a worker {worker.how_it_ended()} before it was ready")
        if not self.is_open:
            self._fail(error)
        elif worker.generation == self.generation and not worker.ready and self._may_give_up():
            self.generation = max(other.generation for other in self.workers if other.ready)
            self.hooks.say(f"the workers are not replaced: {error}")
        else:
            self._on_death(str(worker.error or f"worker {worker.pid} {worker.how_it_ended()}"))

    def _may_give_up(self) -> bool:
        """Whether no worker of this generation was ever ready, and an older one serves."""
        of_this = [other for other in self.workers if other.generation == self.generation and other.ready]
        return not of_this and any(other.ready and not other.is_stopping for other in self.workers)

    def _on_death(self, why: str) -> None:
        """A worker has died, or could not be started: another one is started, later each time."""
        now = time.monotonic()
        self.n_deaths = 1 if now - self._last_death > STEADY_S else self.n_deaths + 1
        self._last_death = now
        if self.n_deaths >= MAX_DEATHS:
            self._fail(FailedError(f"{self.n_deaths} workers died one after the other, and the server ends; {why}"))
            return
        delay = 0.0 if self.n_deaths == 1 else min(MAX_DELAY_S, 2.0 ** (self.n_deaths - 2))
        self._next_start = now + delay
        self.hooks.say(f"{why}; another one is started" + (f" in {delay:.0f} s" if delay else ""))

    def _fail(self, error: LastTokenError) -> None:
        self._error = error
        self._end_all()

    # ------------------------------------------------------------------ what to do about it

    def _reconcile(self) -> None:
        """Bring the workers closer to n ready ones of the present generation."""
        if self._is_stopping:
            return
        if not self.is_open and len(self._ready()) == self.n_workers:
            try:
                self.hooks.on_open(self.workers[0])
            except LastTokenError as error:
                self._fail(error)
                return
            self.is_open = True
        if self.is_open:
            for worker in self._ready():
                if not worker.accepts:
                    worker.accept()
            self._drain_surplus()
        if time.monotonic() >= self._next_start:
            try:
                self._start_missing()
            except LastTokenError as error:
                if self.is_open:
                    self._on_death(str(error))
                else:
                    self._fail(error)

    def _ready(self) -> list[WorkerProcess]:
        """The workers of the present generation that can serve."""
        return [w for w in self.workers if w.generation == self.generation and w.ready and not w.is_stopping]

    def _drain_surplus(self) -> None:
        old = [w for w in self.workers if w.generation != self.generation and not w.is_stopping]
        for worker in old:
            if not worker.ready:
                worker.drain()
        serving = [w for w in old if w.ready]
        n_surplus = len(self._ready()) + len(serving) - self.n_workers
        for worker in serving[: max(0, n_surplus)]:
            worker.drain()

    def _start_missing(self) -> None:
        """Start workers: the first of a generation alone, and at most one more than n processes at a time."""
        present = [w for w in self.workers if w.generation == self.generation and not w.is_stopping]
        is_first = not self._ready()
        if not self.is_open and not is_first and len(present) == 1 < self.n_workers:
            self.hooks.on_first(present[0])
        n_missing = self.n_workers - len(present) if not is_first else 1 - len(present)
        for _ in range(min(n_missing, self.n_workers + 1 - len(self.workers))):
            self._start()

    def _start(self) -> None:
        worker_id = min(set(range(self.n_workers + 1)) - {worker.worker_id for worker in self.workers})
        self.workers.append(self.hooks.start(worker_id, self.generation))
