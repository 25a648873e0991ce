"""Cores and memory, of the machine and of a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lasttoken.core.errors import SettingsError
from lasttoken.core.machine import (
    LEAST_BYTES,
    check_room,
    free_bytes,
    memory_bytes,
    own_bytes,
    threads_per_worker,
    usable_cores,
)

KB = 1024


@pytest.mark.parametrize(("quota", "n_cores"), [("max 100000", None), ("150000 100000", 2), ("50000 100000", 1)])
def test_a_container_s_share_of_the_cores_counts(quota: str, n_cores: int | None, tmp_path: Path) -> None:
    all_cores = len(os.sched_getaffinity(0))
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert usable_cores(tmp_path) == min(n_cores or all_cores, all_cores)
    assert usable_cores(tmp_path / "absent") == all_cores


def test_cores_are_shared_out_and_a_given_number_holds_for_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lasttoken.core.machine.usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_per_worker(n) for n in (2, 3, 8, 20)] == [4, 2, 1, 1]
    assert threads_per_worker(2, 6) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_per_worker(8) == threads_per_worker(8, 16) == 3


def test_the_smaller_of_the_machine_s_and_the_container_s_memory_is_free(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  9000 kB\nMemAvailable:  4000 kB\n")
    assert free_bytes(meminfo, tmp_path) == 4000 * KB
    (tmp_path / "memory.max").write_text(f"{3000 * KB}\n")
    (tmp_path / "memory.current").write_text(f"{2500 * KB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {200 * KB}\n")
    assert free_bytes(meminfo, tmp_path) == 700 * KB
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes(meminfo, tmp_path) == 4000 * KB
    assert free_bytes(tmp_path / "absent", tmp_path / "absent") is None


def test_a_container_has_no_more_memory_than_its_limit(tmp_path: Path) -> None:
    of_machine = memory_bytes(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_bytes(tmp_path) == of_machine > 10**8
    (tmp_path / "memory.max").write_text(f"{100 * KB}\n")
    assert memory_bytes(tmp_path) == 100 * KB


def test_more_processes_than_fit_into_the_memory_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lasttoken.core.machine.free_bytes", lambda: 3 * LEAST_BYTES + 5)
    check_room(3)
    with pytest.raises(SettingsError, match=r"--workers is 4.*at most --workers 3"):
        check_room(4)
    monkeypatch.setattr("lasttoken.core.machine.free_bytes", lambda: None)
    check_room(1000)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc/PID/smaps_rollup")
def test_a_process_has_memory_of_its_own() -> None:
    own = own_bytes(os.getpid())
    assert own is not None
    assert 10**6 < own < 10**11
    assert own_bytes(2**22 + 1) is None
