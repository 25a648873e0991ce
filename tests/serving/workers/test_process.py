"""A real process that stands in for a worker: told to accept and to drain, failing, and killed."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any

import pytest

from lasttoken.core.errors import RunError
from lasttoken.serving.workers.process import WorkerProcess, start_process
from lasttoken.serving.workers.worker import ACCEPT, DRAIN, Ready


def worker(settings: str, listener: socket.socket, control: Any) -> None:
    """Stands in for `run_worker`."""
    if settings == "broken":
        control.send(RunError("this run is broken"))
        return
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    control.send(Ready((str(listener.getsockname()[1]), str(signal.SIGINT in blocked and signal.SIGHUP in blocked))))
    assert control.recv() == ACCEPT
    assert control.recv() == DRAIN


@pytest.fixture
def listener() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def _until(process: WorkerProcess, is_so: Any) -> None:
    limit = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < limit
        process.poll()
        time.sleep(0.02)


def test_a_worker_inherits_the_socket_and_is_told_what_to_do(listener: socket.socket) -> None:
    process = start_process(worker, "good", listener, 0, 0)
    _until(process, lambda: process.ready)
    assert process.ready is not None
    assert process.ready.notices == (str(listener.getsockname()[1]), "True")
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    process.accept()
    process.drain()
    _until(process, lambda: not process.process.is_alive())
    assert process.how_it_ended() == "ended with code 0"


def test_the_error_of_a_worker_that_cannot_start_arrives(listener: socket.socket) -> None:
    process = start_process(worker, "broken", listener, 0, 0)
    _until(process, lambda: process.error)
    assert isinstance(process.error, RunError)
    assert str(process.error) == "this run is broken"


def test_a_killed_worker_is_noticed_and_telling_it_something_does_no_harm(listener: socket.socket) -> None:
    process = start_process(worker, "good", listener, 0, 0)
    _until(process, lambda: process.ready)
    os.kill(process.pid, signal.SIGKILL)
    process.process.join(10)
    process.accept()
    assert not process.poll()
    assert process.how_it_ended() == "was killed by signal 9"
