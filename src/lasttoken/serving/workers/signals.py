"""Signals as something to wait for, beside pipes and processes; and what SIGHUP means.

SIGHUP asks to replace the workers. It also comes when the terminal is closed in which the server was started: then it
ends the server, unless it was started with nohup.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import Any

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """Catches SIGTERM, SIGINT and SIGHUP while the block runs; for the main thread."""

    def __enter__(self) -> Signals:
        """Catch them."""
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        self._had_terminal = _has_terminal()
        self._wakeup = signal.set_wakeup_fd(self._writing.fileno())
        self._before = {number: signal.signal(number, lambda *_: None) for number in NUMBERS}
        return self

    def __exit__(self, *_: object) -> None:
        """Put everything back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._reading.close()
        self._writing.close()

    def wait(self, others: Sequence[Any], seconds: float) -> list[int]:
        """Wait for a signal or for one of `others` (pipes, sentinels); returns the signals that came."""
        wait([self._reading, *others], seconds)
        with contextlib.suppress(BlockingIOError):
            numbers = [number for number in self._reading.recv(256) if number in NUMBERS]
            if signal.SIGHUP in numbers and self._had_terminal and not _has_terminal():
                numbers = [number for number in numbers if number != signal.SIGHUP]
                numbers += [signal.SIGTERM] if self._before[signal.SIGHUP] != signal.SIG_IGN else []
            return numbers
        return []


def _has_terminal() -> bool:
    """Whether this process has a terminal that can send it signals."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
