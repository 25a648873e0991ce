"""Settings of the process: denormal numbers are flushed where it is asked for, and signals are remembered."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from lasttoken.core.process import (
    flush_denormals,
    flushes_denormals,
    scarce_memory,
    shared_threads,
    stop_on_signal,
    threads_each,
    tune_cpu,
)


@pytest.fixture(autouse=True)
def denormals_count() -> Iterator[None]:
    before = flushes_denormals()
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(before)


def test_denormals_are_zero_inside_the_block_and_as_before_after_it() -> None:
    tiny = torch.tensor(1e-310, dtype=torch.float64)
    with flush_denormals():
        assert (tiny * 2).item() == 0
        with flush_denormals():
            pass
        assert flushes_denormals(), "an inner block does not end the outer one"
    assert (tiny * 2).item() == 2e-310


def test_denormals_are_as_before_after_an_error() -> None:
    with pytest.raises(ValueError, match="in the block"), flush_denormals():
        raise ValueError("in the block")
    assert not flushes_denormals()


def test_tune_cpu_flushes_denormals_for_the_rest_of_the_process() -> None:
    tune_cpu()
    assert flushes_denormals()


@pytest.fixture
def eight_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch has eight threads, and nobody has said how many it should have."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("n_cores", "n_threads"), [(3, 3), (8, 8), (16, 8)])
@pytest.mark.usefixtures("eight_threads")
def test_tune_cpu_takes_no_more_threads_than_there_are_cores(
    n_cores: int, n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lasttoken.core.process.usable_cores", lambda: n_cores)
    tune_cpu()
    assert torch.get_num_threads() == n_threads


@pytest.mark.usefixtures("eight_threads")
def test_the_threads_that_the_user_asked_for_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lasttoken.core.process.usable_cores", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    tune_cpu()
    assert torch.get_num_threads() == 8
    assert threads_each(2) == 8


@pytest.mark.usefixtures("eight_threads")
def test_threads_are_shared_out_to_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lasttoken.core.process.usable_cores", lambda: 16)
    assert [threads_each(n) for n in (1, 2, 3, 20)] == [8, 4, 2, 1]
    monkeypatch.setattr("lasttoken.core.process.usable_cores", lambda: 4)
    assert [threads_each(n) for n in (1, 2, 3, 20)] == [4, 2, 1, 1]
    with shared_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 8


KEPT_MB = """
import re
from pathlib import Path

import torch
from lasttoken.core.process import scarce_memory, tune_cpu

def resident_mb():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def kept_mb():
    before = resident_mb()
    tensors = [torch.ones(1 << 20) for _ in range(50)]
    del tensors
    return resident_mb() - before

tune_cpu()
with scarce_memory({scarce}):
    print(kept_mb())
print(kept_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's malloc")
def test_freed_memory_is_kept_unless_it_is_scarce() -> None:
    def kept(scarce: bool) -> list[float]:
        code = KEPT_MB.format(scarce=scarce)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return [float(line) for line in done.stdout.split()]

    scarce, after = kept(scarce=True)
    assert scarce < 50 < 150 < after  # of 200
    assert kept(scarce=False)[0] > 150


@pytest.mark.parametrize(("is_tuned", "n_changes"), [(True, 2), (False, 0)])
def test_only_what_tune_cpu_has_changed_is_changed_again(
    is_tuned: bool, n_changes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[object] = []
    monkeypatch.setattr("lasttoken.core.process._set_malloc", changes.append)
    monkeypatch.setattr("lasttoken.core.process._keeps_freed_memory", is_tuned)
    with scarce_memory():
        assert len(changes) == n_changes // 2
    assert len(changes) == n_changes


def test_importing_the_package_changes_nothing_in_the_process() -> None:
    code = "import lasttoken; from lasttoken.core.process import flushes_denormals; print(flushes_denormals())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_remembered_and_the_old_handler_returns(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signal() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), number)
        assert should_stop()
    assert signal.getsignal(number) is before


def test_a_second_interrupt_ends_the_block_at_once() -> None:
    with stop_on_signal() as should_stop:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert should_stop()
