"""Settings of the process: denormal numbers are flushed where it is asked for, and signals are remembered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from lasttoken.core.process import flush_denormals, flushes_denormals, stop_on_signal, tune_cpu


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
