"""The parent's decisions, with processes that are not there; and that a real one can be started, told and killed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from lasttoken.core.errors import FailedError, RunError, SettingsError
from lasttoken.serving.workers import supervisor as module
from lasttoken.serving.workers.supervisor import MAX_DEATHS, Hooks, Supervisor
from lasttoken.serving.workers.worker import Ready


@dataclass(eq=False)
class Imagined:
    """Stands in for a WorkerProcess: what is done to it is written down, and it is what it is set to."""

    worker_id: int
    generation: int
    ready: Ready | None = None
    error: Any = None
    accepts: bool = False
    is_stopping: bool = False
    is_alive: bool = True
    pid: int = 4711
    sentinel: int = 0
    control: int = 0

    @property
    def process(self) -> Any:
        return self

    def poll(self) -> bool:
        return self.is_alive

    def accept(self) -> None:
        self.accepts = True

    def drain(self) -> None:
        self.is_stopping = True

    def end(self) -> None:
        self.is_stopping, self.is_alive = True, False

    def kill(self) -> None:
        self.is_alive = False

    def how_it_ended(self) -> str:
        return "was killed by signal 9"


@dataclass
class World:
    """A supervisor whose workers are imagined; each step is done at once, without waiting."""

    n: int
    said: list[str] = field(default_factory=list)
    done: list[Any] = field(default_factory=list)
    now: float = 1000.0
    copy_error: Exception | None = None
    first_error: Exception | None = None

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(
            self.n,
            Hooks(
                start=self._start,
                on_first=self._first,
                on_open=lambda _: self.done.append("open"),
                on_gone=lambda worker_id: self.done.append(("gone", worker_id)),
                copy_runs=self._copy,
                drop_runs=lambda generation: self.done.append(("drop", generation)),
                say=self.said.append,
            ),
        )

    def _start(self, worker_id: int, generation: int) -> Any:
        return Imagined(worker_id, generation)

    def _first(self, worker: Any) -> None:
        if self.first_error:
            raise self.first_error

    def _copy(self, generation: int) -> None:
        if self.copy_error:
            raise self.copy_error

    def wait(self, others: Any, seconds: float) -> list[int]:
        return []

    def step(self, *signals: int) -> None:
        self.wait = lambda others, seconds: list(signals)  # type: ignore[method-assign]
        self.supervisor._wait(self)  # type: ignore[arg-type]
        self.wait = lambda others, seconds: []  # type: ignore[method-assign]
        self.supervisor._reconcile()

    @property
    def workers(self) -> list[Any]:
        return self.supervisor.workers

    def opened(self) -> World:
        self.step()
        while not self.supervisor.is_open:
            self.all_ready()
            self.step()
        return self

    def all_ready(self) -> None:
        for worker in self.workers:
            worker.ready = worker.ready or Ready(())

    def state(self) -> list[tuple[int, str]]:
        def word(worker: Any) -> str:
            return "stops" if worker.is_stopping else "serves" if worker.accepts else "starts"

        return [(worker.generation, word(worker)) for worker in self.workers]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    def made(n: int, **more: Any) -> World:
        world = World(n, **more)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: world.now))
        monkeypatch.setattr(module, "Signals", lambda: nullcontext(world))
        return world

    return made


def test_the_first_worker_starts_alone_and_all_are_ready_before_the_socket_listens(make: Any) -> None:
    world = make(3)
    world.step()
    assert world.state() == [(0, "starts")]
    world.all_ready()
    world.step()
    assert world.state() == [(0, "starts")] * 3
    world.workers[1].ready = Ready(())
    world.step()
    assert "open" not in world.done
    world.all_ready()
    world.step()
    assert world.done == ["open"]
    assert world.state() == [(0, "serves")] * 3
    assert [worker.worker_id for worker in world.workers] == [0, 1, 2]


def test_a_worker_that_dies_at_the_start_ends_the_server_with_its_sentence(make: Any) -> None:
    world = make(2)
    world.step()
    world.workers[0].error, world.workers[0].is_alive = RunError("this run is broken"), False
    world.step()
    with pytest.raises(RunError, match="this run is broken"):
        world.supervisor.run()


def test_what_forbids_more_workers_ends_the_server(make: Any) -> None:
    world = make(2, first_error=SettingsError("too many"))
    world.step()
    world.all_ready()
    world.step()
    with pytest.raises(SettingsError, match="too many"):
        world.supervisor.run()


def test_sighup_replaces_workers_one_by_one_and_each_is_ready_before_one_stops(make: Any) -> None:
    world = make(2).opened()
    world.step(signal.SIGHUP)
    assert world.state() == [(0, "serves"), (0, "serves"), (1, "starts")]
    world.step()
    assert len(world.workers) == 3, "one at a time"
    world.all_ready()
    world.step()
    assert world.state() == [(0, "stops"), (0, "serves"), (1, "serves")]
    world.step()
    assert len(world.workers) == 3, "never more than one process above n"
    world.workers[0].is_alive = False
    world.step()
    assert world.state() == [(0, "serves"), (1, "serves"), (1, "starts")]
    assert world.workers[-1].worker_id == 0, "a number that is free is used again"
    world.all_ready()
    world.step()
    world.workers[0].is_alive = False
    world.step()
    assert world.state() == [(1, "serves"), (1, "serves")]
    assert ("drop", 0) in world.done
    assert len(world.said) == 1


def test_a_run_that_cannot_be_read_keeps_the_old_workers(make: Any) -> None:
    world = make(2).opened()
    world.copy_error = RunError("there is no run directory runs/spam")
    world.step(signal.SIGHUP)
    assert world.state() == [(0, "serves")] * 2
    assert "runs/spam" in world.said[-1]


def test_a_new_generation_that_cannot_start_is_given_up(make: Any) -> None:
    world = make(2).opened()
    world.step(signal.SIGHUP)
    world.workers[-1].error, world.workers[-1].is_alive = RunError("corrupt"), False
    world.step()
    assert world.state() == [(0, "serves")] * 2
    assert "corrupt" in world.said[-1]
    assert ("drop", 1) in world.done
    world.workers[0].is_alive = False
    world.step()
    assert world.state() == [(0, "serves"), (0, "starts")], "a dead one is replaced from the old copy"


def test_a_worker_that_dies_is_replaced_at_once_and_then_later_each_time(make: Any) -> None:
    world = make(2).opened()
    delays = []
    for _ in range(4):
        world.workers[-1].is_alive = False
        world.step()
        waited = 0
        while len(world.workers) < 2:
            waited += 1
            world.now += 1
            world.step()
        delays.append(waited)
        world.all_ready()
        world.step()
    assert delays == [0, 1, 2, 4]
    world.now += 1000
    world.workers[-1].is_alive = False
    world.step()
    assert world.state()[-1] == (0, "starts"), "after a quiet time the count begins again"
    assert ("gone", 1) in world.done


def test_workers_that_die_one_after_the_other_end_the_server(make: Any) -> None:
    world = make(2).opened()
    for _ in range(MAX_DEATHS):
        world.workers[-1].is_alive = False
        world.step()
        world.now += 31
        world.step()
        world.all_ready()
        world.step()
    with pytest.raises(FailedError, match=f"{MAX_DEATHS} workers"):
        world.supervisor.run()


def test_sigterm_ends_all_also_in_the_middle_of_a_replacement(make: Any) -> None:
    world = make(2).opened()
    world.step(signal.SIGHUP)
    world.step(signal.SIGTERM)
    assert all(worker.is_stopping for worker in world.workers)
    world.step(signal.SIGHUP)
    assert world.workers == []
    world.supervisor.run()  # ends, without starting anything
    assert world.workers == []


def test_two_requests_to_replace_end_with_the_newest(make: Any) -> None:
    world = make(2).opened()
    world.step(signal.SIGHUP, signal.SIGHUP)
    for _ in range(12):
        for worker in list(world.workers):
            worker.is_alive = not worker.is_stopping
        world.all_ready()
        world.step()
        assert len(world.workers) <= 3
    assert world.state() == [(2, "serves")] * 2
