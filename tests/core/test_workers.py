"""The processes of --workers: started with their share of the processor, and missed when they end."""

from __future__ import annotations

import time

import pytest
import torch

from lasttoken.core.workers import Workers, shared_threads, threads_each


def test_the_cores_are_shared_out_unless_the_user_has_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 9)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert [threads_each(n) for n in (1, 2, 4, 16)] == [9, 4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_each(4) == 3
    before = torch.get_num_threads()
    with shared_threads(2):
        assert torch.get_num_threads() == min(before, 3)
    assert torch.get_num_threads() == before


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
