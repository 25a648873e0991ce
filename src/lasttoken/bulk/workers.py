"""Worker processes on one machine: each takes the next part, and the part of one that dies goes to another.

    parent ── number ──►  worker 0: cuda:0, or threads 0 … k    loads the classifier once, maps the same weights
           ◄── done ────  worker 1: cuda:1, or threads k+1 …

The parent computes nothing. A worker that is killed is replaced; what it had written of a part counts for nothing.
Workers end when the parent does, however it ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Protocol

from lasttoken.core.errors import FailedError, LastTokenError

# Of workers on the same part, or in a row before they were ready, with every engine: then it is no accident. Also of
# parts that are given up so. A machine that is short of memory for a while kills a worker two or three times.
MOST_DEATHS = 5
NOT_READY = -1  # in place of a part's number
JOIN_S = 5.0  # for a worker to end

Score = Callable[[int], int | None]


class Task(Protocol):
    """What a worker does, as a value that can be sent to it."""

    def open(self, index: int, n: int) -> contextlib.AbstractContextManager[Score]:
        """In worker `index` of n: a function that writes a part and returns its rows; None: there is no such part."""
        ...


@dataclass
class _Worker:
    """A worker process, as the parent sees it."""

    process: BaseProcess
    connection: Connection
    number: int | None = None  # of the part that it has been given
    is_ready: bool = False


@dataclass
class Pool:
    """n workers of one task, while the block `with Pool(…)` runs."""

    task: Task
    n: int
    on_death: Callable[[str], None] = lambda _: None  # gets a sentence about a worker that was replaced
    _workers: list[_Worker] = field(default_factory=list)
    _deaths: Counter[int] = field(default_factory=Counter)
    _lost: dict[int, str] = field(default_factory=dict)  # parts that ended every worker → how the last one ended

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.terminate()
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(JOIN_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []

    def run(self, numbers: Iterator[int]) -> Iterator[tuple[int, int]]:
        """(part, its rows) for each of these parts, as they are finished; the first that does not exist is the end.

        Raises:
            LastTokenError: what a worker raised.
            FailedError: workers die again and again, before they are ready or on the same part; the other parts are
                finished first.
        """
        again: deque[int] = deque()  # parts of workers that died
        self._workers = [self._start(index) for index in range(self.n)]
        is_last = False
        while True:
            for worker in self._workers:
                if worker.is_ready and worker.number is None and (again or not is_last):
                    worker.number = again.popleft() if again else next(numbers, None)
                    is_last |= worker.number is None
                    if worker.number is not None:
                        self._send(worker)
            if is_last and not again and all(worker.number is None for worker in self._workers):
                break
            for index, answer in self._answers():
                worker = self._workers[index]
                if answer is None:
                    self._replace(index)
                    if worker.number is not None and worker.number not in self._lost:
                        again.append(worker.number)
                elif answer == READY:
                    worker.is_ready = True
                    self._deaths.pop(NOT_READY, None)
                elif isinstance(answer, BaseException):
                    raise answer
                else:
                    number, n_rows = answer
                    worker.number = None
                    if n_rows is None:
                        is_last = True
                    else:
                        yield number, n_rows
        if self._lost:
            raise FailedError(given_up(self._lost, "use fewer --workers"))

    def _answers(self) -> Iterator[tuple[int, Any]]:
        """(worker, what it says) for those that say something; None: it is dead."""
        by_connection = {id(worker.connection): index for index, worker in enumerate(self._workers)}
        for connection in wait([worker.connection for worker in self._workers]):
            try:
                yield by_connection[id(connection)], connection.recv()  # type: ignore[union-attr, call-arg]
            except (EOFError, OSError):
                yield by_connection[id(connection)], None

    def _send(self, worker: _Worker) -> None:
        with contextlib.suppress(OSError):  # it is dead, and the end of its connection says so
            worker.connection.send(worker.number)

    def _start(self, index: int) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.task, index, self.n), daemon=True)
        with _without_main(), _interrupts_blocked():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _replace(self, index: int) -> None:
        """Start another worker in the place of a dead one.

        Raises:
            FailedError: too many have died before they had a part, or too many parts ended their workers.
        """
        dead = self._workers[index]
        dead.connection.close()
        dead.process.join(JOIN_S)
        code = dead.process.exitcode
        cause = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        reason = NOT_READY if dead.number is None else dead.number
        self._deaths[reason] += 1
        is_given_up = self._deaths[reason] >= MOST_DEATHS
        if dead.number is None and is_given_up:
            raise FailedError(
                f"{MOST_DEATHS} workers in a row ended before they had a part, the last with {cause}; finished parts "
                "stay finished: use fewer --workers if memory is short, and run the command again"
            )
        if dead.number is not None and is_given_up:
            self._lost[dead.number] = cause
            if len(self._lost) >= MOST_DEATHS:
                raise FailedError(given_up(self._lost, "use fewer --workers"))
        what = "before it had a part" if dead.number is None else f"on part {dead.number}"
        self.on_death(f"a worker ended {what} ({cause}); another takes its place")
        self._workers[index] = self._start(index)


def given_up(lost: Mapping[int, str], advice: str, file: str | None = None) -> str:
    """A sentence about parts that ended `MOST_DEATHS` workers each; `file` is that of the first of them.

    >>> given_up({7: "signal 9", 8: "signal 9"}, "use fewer --workers")[:64]
    'part 7 ended its worker 5 times, and 1 other part did the same, '
    """
    number, cause = next(iter(lost.items()))
    n_others = len(lost) - 1
    others = f", and {n_others} other part{'s' * (n_others > 1)} did the same" if n_others else ""
    of_file = f" ({file})" if file else ""
    return (
        f"part {number}{of_file} ended its worker {MOST_DEATHS} times{others}, the last time: {cause}; finished parts "
        f"stay finished: look at that part of the input, or {advice} if memory is short, and run the command again"
    )


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Start processes that do not import the main module of this one, which may be any script."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: the parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # a process of multiprocessing's own; starting it would unblock SIGINT again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# In the worker ----------------------------------------------------------------------------------------------------

READY = "ready"


def _serve(connection: Connection, task: Task, index: int, n: int) -> None:
    """Write the parts whose numbers the parent sends, until it ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with task.open(index, n) as score:
            connection.send(READY)
            while True:
                number = connection.recv()
                connection.send((number, score(number)))
    except EOFError:
        return
    except LastTokenError as error:
        connection.send(error)
    except Exception as error:  # the parent shows it, with what it says of this process
        error.add_note(f"in worker {index}")
        connection.send(error)


def _end_with_parent() -> None:
    """End this process, whatever it computes, when its parent has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def share_machine(index: int, n: int) -> None:
    """Take this worker's share of the threads, or its GPU."""
    import torch

    from lasttoken.core.process import threads_each, tune_cpu

    tune_cpu()
    torch.set_num_threads(threads_each(n))
    if torch.cuda.is_available():
        torch.cuda.set_device(index % torch.cuda.device_count())
