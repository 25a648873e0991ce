"""The other processes of `lasttoken train --workers n`: started, watched and ended by this one, which is rank 0.

lasttoken train … --workers 3 ─┬─► python -m lasttoken train    RANK=1    its orders come from rank 0 (team.py)
                               └─► python -m lasttoken train    RANK=2
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from torch._C._distributed_c10d import TCPStore

from lasttoken.core.machine import THREADS_VARIABLE
from lasttoken.core.process import threads_each
from lasttoken.core.ranks import Rank

PARENT = "LASTTOKEN_PARENT"  # the process whose end is that of its workers
POLL_S = 0.5
GRACE_S = 30.0  # in which rank 0 notices by itself that a worker has ended; it may be computing
END_S = 5.0  # in which a worker ends that was told so


class Workers:
    """The processes that rank 0 has started."""

    def __init__(self, n: int, stop: Callable[[str], None]) -> None:
        """Start `n` - 1 processes of this program, which share the processor's cores.

        `stop` is called with a sentence where a worker has ended and this process does not notice, because it waits
        inside a library.
        """
        self.store = TCPStore("127.0.0.1", 0, n, is_master=True, wait_for_workers=False)
        common = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC_")},
            THREADS_VARIABLE: str(threads_each(n)),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.store.port),
            PARENT: str(os.getpid()),
        }
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "lasttoken", "train"],
                env={**common, **Rank(number, n, number, n).to_environment()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches rank 0 alone, which ends the training in order
            )
            for number in range(1, n)
        ]
        self._over = threading.Event()
        threading.Thread(target=self._watch, args=(stop,), daemon=True).start()

    def died(self) -> str | None:
        """A sentence about a worker that has ended; None: all are running."""
        for number, process in enumerate(self.processes, 1):
            if (code := process.poll()) is not None:
                how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
                return f"worker {number} (process {process.pid}) {how}; start the training again with --resume"
        return None

    def _watch(self, stop: Callable[[str], None]) -> None:
        while not self._over.wait(POLL_S):
            if sentence := self.died():
                if not self._over.wait(GRACE_S):
                    stop(sentence)
                return

    def end(self, in_order: bool) -> None:
        """End the workers; those that were told so get a moment to end by themselves."""
        self._over.set()
        until = time.monotonic() + (END_S if in_order else 0.0)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(until - time.monotonic(), 0))
            if process.poll() is None:
                process.kill()
                process.wait()


def end_with_parent() -> None:
    """End this process when the one that started it does, whatever it is doing."""
    parent = os.getppid()
    if os.environ.get(PARENT, str(parent)) != str(parent):
        os._exit(1)  # it has ended already

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # rank 0 decides what a signal means
