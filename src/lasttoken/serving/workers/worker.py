"""One worker process: loads the models, tells the parent that it is ready, and serves until it is told to stop.

    parent ──start──► worker: load, warm up ──Ready──► parent ──ACCEPT──► worker takes connections
                                            ──error──►                   ──DRAIN──► answers what it has, then ends
                                                       parent has died (end of the pipe): the same

SIGTERM ends a worker as it ends a server of one process. It has a session of its own, so that Ctrl-C in a terminal
reaches the parent alone, which passes it on.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from lasttoken.core.errors import FailedError, LastTokenError
from lasttoken.core.machine import THREADS_VARIABLE
from lasttoken.serving.options import ServerOptions
from lasttoken.serving.sockets import DRAIN_S

ACCEPT, DRAIN = "accept", "drain"


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker is started with."""

    worker_id: int  # the lowest that no other worker has
    n_ids: int
    runs: tuple[Path, ...]  # the parent's copies
    options: ServerOptions
    folder: Path  # the parent's private one
    threads: int
    created: int  # the server's start in Unix seconds, the same for all workers


@dataclass(frozen=True)
class Ready:
    """The models are warm; `notices`: what the operator should know."""

    notices: tuple[str, ...]


def run_worker(settings: WorkerSettings, listener: socket.socket, control: Pipe) -> None:
    """The whole life of a worker; an error before it is ready is sent to the parent."""
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until uvicorn handles it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGHUP})
    os.environ[THREADS_VARIABLE] = str(settings.threads)  # before torch is imported
    try:
        _serve(settings, listener, control)
    except LastTokenError as error:
        _send(control, error)
    except Exception as error:
        _send(control, FailedError(f"a worker could not start ({type(error).__name__}: {error})"))
        raise


def _send(control: Pipe, message: object) -> None:
    try:
        control.send(message)
    except OSError:  # the parent has died
        return


def _serve(settings: WorkerSettings, listener: socket.socket, control: Pipe) -> None:
    import torch

    from lasttoken.core.process import tune_cpu
    from lasttoken.serving.listen import run_frozen, uvicorn_config, within_file_limit
    from lasttoken.serving.metrics import count_for_all_workers
    from lasttoken.serving.service import Worker, make_service, notices_of
    from lasttoken.serving.workers.accepting import Table
    from lasttoken.serving.workers.connections import worker_connection_class
    from lasttoken.serving.workers.server import WorkerServer

    tune_cpu()
    torch.set_num_threads(settings.threads)
    count_for_all_workers(settings.folder / "metrics", settings.worker_id)
    options = settings.options
    worker = Worker(settings.threads, settings.created, settings.folder / "metrics")
    app, groups = make_service(settings.runs, options, worker)
    table = Table(settings.folder / "connections", settings.n_ids)
    protocol = worker_connection_class(within_file_limit(options.limits), table, settings.worker_id)
    config = uvicorn_config(app, protocol, DRAIN_S)
    ready = Ready(tuple(_with_threads(notices_of(options, groups), settings)))
    run_frozen(WorkerServer(config, listener, control, ready), listener)


def _with_threads(notices: Iterator[str], settings: WorkerSettings) -> Iterator[str]:
    yield from notices
    threads = "1 thread" if settings.threads == 1 else f"{settings.threads} threads"
    yield f"{settings.options.workers} workers, {threads} each"
