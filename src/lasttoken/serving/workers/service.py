"""A server of several processes from its parts: runs ─► private copies ─► workers ─► one listening socket.

This process imports neither torch nor uvicorn, and holds no model.
"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lasttoken.core.errors import SettingsError
from lasttoken.core.machine import free_bytes, own_bytes, threads_per_worker, usable_cores
from lasttoken.serving.options import ServerOptions, names_of
from lasttoken.serving.sockets import address_line, bind, start_listening
from lasttoken.serving.workers.accepting import NOT_ACCEPTING, Table
from lasttoken.serving.workers.folder import copy_runs, private_folder
from lasttoken.serving.workers.process import WorkerProcess, start_process
from lasttoken.serving.workers.supervisor import Hooks, Supervisor
from lasttoken.serving.workers.worker import WorkerSettings, run_worker

GB = 1e9


def serve_with_workers(runs: Sequence[Path], options: ServerOptions, say: Callable[[str], None]) -> None:
    """Serve classifiers with `options.workers` processes until SIGTERM or Ctrl-C; SIGHUP replaces them one by one.

    Raises:
        SettingsError: an address that cannot be bound, two runs of one name, or too many workers for the memory.
        RunError, BackboneError, DeviceError: a run that cannot be loaded.
        StorageError: no room for the copies of the runs.
        FailedError: workers died one after the other.
    """
    names_of(runs)
    with bind(options.host, options.port) as listener, private_folder() as folder:
        Supervisor(options.workers, _Service(runs, options, say, listener, folder).hooks()).run()


class _Service:
    """What the supervisor asks for: copies of the runs, workers, and what becomes of those that have ended."""

    def __init__(
        self,
        runs: Sequence[Path],
        options: ServerOptions,
        say: Callable[[str], None],
        listener: socket.socket,
        folder: Path,
    ) -> None:
        self._runs, self._options, self._say = runs, options, say
        self._listener, self._folder = listener, folder
        self._created, self._threads = int(time.time()), threads_per_worker(options.workers)
        self._n_ids = options.workers + 1
        self._table = Table(folder / "connections", self._n_ids)
        self._copies: dict[int, list[Path]] = {}
        self._copy_runs(0)

    def hooks(self) -> Hooks:
        """For the supervisor."""
        return Hooks(
            start=self._start,
            on_first=self._check_memory,
            on_open=self._open,
            on_gone=self._forget,
            copy_runs=self._copy_runs,
            drop_runs=self._drop_runs,
            say=self._say,
        )

    def _copy_runs(self, generation: int) -> None:
        self._copies[generation] = copy_runs(self._runs, names_of(self._runs), self._folder / f"runs-{generation}")

    def _drop_runs(self, generation: int) -> None:
        del self._copies[generation]
        shutil.rmtree(self._folder / f"runs-{generation}", ignore_errors=True)

    def _start(self, worker_id: int, generation: int) -> WorkerProcess:
        settings = WorkerSettings(
            worker_id,
            self._n_ids,
            tuple(self._copies[generation]),
            self._options,
            self._folder,
            self._threads,
            self._created,
        )
        return start_process(run_worker, settings, self._listener, worker_id, generation)

    def _check_memory(self, first: WorkerProcess) -> None:
        """Reject more workers than there is memory for, by what the first one has taken.

        Raises:
            SettingsError: it names a number that fits.
        """
        own, free = own_bytes(first.pid), free_bytes()
        if own is None or free is None or own * (self._options.workers - 1) <= free:
            return
        raise SettingsError(
            f"--workers is {self._options.workers}, but each takes {own / GB:.1f} GB of its own and "
            f"{free / GB:.1f} GB are free beside the first; give at most --workers {1 + free // own}"
        )

    def _open(self, first: WorkerProcess) -> None:
        """Listen, and tell the operator.

        Raises:
            SettingsError: another process listens on this address by now.
        """
        start_listening(self._listener, self._options.host)
        n_cores = usable_cores()
        if self._options.workers > n_cores:
            self._say(f"--workers is {self._options.workers}, more than the {n_cores} cores that may be used")
        for notice in first.ready.notices if first.ready else ():
            self._say(notice)
        self._say(address_line(self._options.host, self._listener))

    def _forget(self, worker_id: int) -> None:
        from lasttoken.serving.metrics import forget_gauges

        self._table.set(worker_id, NOT_ACCEPTING)
        forget_gauges(self._folder / "metrics", worker_id)
