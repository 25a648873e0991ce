"""One worker as the parent sees it: its process, the pipe to it, and where it stands.

starting ──Ready──► ready ──drain──► stopping ──► ended
    └──error────────────────────────────────────►
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from typing import Any

from lasttoken.core.errors import FailedError, LastTokenError
from lasttoken.serving.workers.worker import ACCEPT, DRAIN, Ready

START_S = 600.0  # a worker that is not ready by then is killed
END_S = 90.0  # a worker that has not ended by then, after it was told to, is killed; uvicorn and the engine take 30 s


@dataclass(eq=False)
class WorkerProcess:
    """A worker process; `poll` brings it up to date."""

    worker_id: int
    generation: int
    process: BaseProcess
    control: Pipe
    started: float = field(default_factory=time.monotonic)
    ready: Ready | None = None
    error: LastTokenError | None = None  # why it could not start
    accepts: bool = False
    stopped: float | None = None  # when it was told to stop

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid or 0

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self.stopped is not None

    def poll(self) -> bool:
        """Read what the worker has sent, and kill it if it is late; whether it is alive."""
        is_alive = self.process.is_alive()
        with contextlib.suppress(EOFError, OSError):
            while self.control.poll():
                message = self.control.recv()
                if isinstance(message, Ready):
                    self.ready = message
                else:
                    self.error = message
        now = time.monotonic()
        if self.ready is None and now - self.started > START_S:
            self.process.kill()
        if self.stopped is not None and now - self.stopped > END_S:
            self.process.kill()
        if not is_alive:
            self.process.join()
            self.control.close()
        return is_alive

    def accept(self) -> None:
        """Let a ready worker take connections."""
        self.accepts = True
        self._tell(ACCEPT)

    def drain(self) -> None:
        """Let it answer what it has, and end."""
        self.stopped = time.monotonic()
        if self.ready:
            self._tell(DRAIN)
        else:
            self.process.terminate()

    def end(self) -> None:
        """Stop it as SIGTERM stops a server of one process."""
        if self.stopped is None:
            self.stopped = time.monotonic()
        self.process.terminate()

    def _tell(self, message: str) -> None:
        with contextlib.suppress(OSError):  # it has just died
            self.control.send(message)

    def how_it_ended(self) -> str:
        """For the operator."""
        code = self.process.exitcode or 0
        return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"


def start_process(
    target: Callable[..., None], settings: Any, listener: Any, worker_id: int, generation: int
) -> WorkerProcess:
    """Start `target(settings, listener, pipe)` in a new Python process, which SIGINT and SIGHUP do not reach yet."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=target, args=(settings, listener, theirs), daemon=True)
    resource_tracker.ensure_running()  # a process of multiprocessing's own; starting it would unblock SIGINT again
    blocked = {signal.SIGINT, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        process.start()
    except OSError as error:
        ours.close()
        raise FailedError(f"a worker process could not be started ({error.strerror or error})") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    return WorkerProcess(worker_id, generation, process, ours)
