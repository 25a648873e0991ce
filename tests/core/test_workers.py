"""The processes of --workers: started with their share of the processor, and missed when they end."""

from __future__ import annotations

import time

from lasttoken.core.workers import Workers


def test_a_killed_worker_is_missed() -> None:
    said: list[str] = []
    workers = Workers(3, said.append)
    assert workers.died() is None
    workers.processes[1].kill()
    workers.processes[1].wait()
    assert f"worker 2 (process {workers.processes[1].pid})" in (workers.died() or "")
    assert "signal 9" in (workers.died() or "")
    started = time.monotonic()
    workers.end(in_order=False)
    assert time.monotonic() - started < 5
    assert workers.processes[0].returncode == -9
    assert not said
