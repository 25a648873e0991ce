"""Settings of the whole process: how the CPU computes and keeps memory, forks, and signals.

The commands of the program change the process; the library does not, unless it is asked to (`tune_cpu`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from types import FrameType

import torch

from lasttoken.core.machine import THREADS_VARIABLE, threads_per_worker, usable_cores

M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD = -3, -1, -2  # of glibc, in bytes
KEEPING = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 1 << 30, M_TOP_PAD: 64 << 20}
RETURNING = {M_MMAP_THRESHOLD: 1 << 20, M_TRIM_THRESHOLD: 1 << 20, M_TOP_PAD: 0}

_keeps_freed_memory = False


def tune_cpu() -> None:
    """Make torch faster on CPUs, for the rest of this process; results stay the same to rounding.

    The commands of the program call it; nothing else does, because both changes concern all code of the process.
    Call it once, before loading a classifier, in a Python program that classifies or trains.

    * Denormal numbers (below 1e-38 in float32) count as zero: arithmetic with them is many times slower. This holds
      for the calling thread and those it starts.
    * Freed memory is kept for the next tensor. By default glibc returns large blocks to the system, which maps and
      clears them again page by page: a third of the time of a training step (benchmarks/2026-11-25-speed.md).
    * In a container with fewer cores than the machine, torch uses no more threads than these. OMP_NUM_THREADS goes
      before.
    """
    torch.set_flush_denormal(True)
    if THREADS_VARIABLE not in os.environ and usable_cores() < torch.get_num_threads():
        torch.set_num_threads(usable_cores())
    global _keeps_freed_memory
    _keeps_freed_memory = True
    _set_malloc(KEEPING)


def _set_malloc(values: Mapping[int, int]) -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library, or Windows
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, n_bytes in values.items():
            mallopt(parameter, n_bytes)


@contextlib.contextmanager
def scarce_memory(is_scarce: bool = True) -> Iterator[None]:
    """Give freed memory back to the system at once inside the block, where `tune_cpu` keeps it; glibc only."""
    changes = is_scarce and _keeps_freed_memory
    if changes:
        _set_malloc(RETURNING)
        return_freed_memory()
    try:
        yield
    finally:
        if changes:
            _set_malloc(KEEPING)


def threads_each(n_processes: int) -> int:
    """This process's threads, shared out to n processes. They are no more than the cores that may be used."""
    return threads_per_worker(n_processes, min(torch.get_num_threads(), usable_cores()))


@contextlib.contextmanager
def shared_threads(n_processes: int) -> Iterator[None]:
    """Leave this process its share of the threads inside the block; 1: another program has decided on it."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(min(threads_each(n_processes), n_threads))
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def return_freed_memory() -> None:
    """Give memory that was freed, and that `tune_cpu` makes the process keep, back to the system (glibc only)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def flushes_denormals() -> bool:
    """Whether denormal numbers count as zero in this thread."""
    return torch.tensor(1e-310, dtype=torch.float64).mul(2).item() == 0


@contextlib.contextmanager
def flush_denormals() -> Iterator[None]:
    """Count denormal numbers as zero inside the block, as `tune_cpu` does; afterwards all is as before."""
    before = flushes_denormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@cache
def survive_forks() -> None:
    """Let a process that is forked from this one compute: on one thread, for the others do not exist there.

    OpenMP would wait for them for ever. Registered once, when a classifier is first made ready to predict.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM as a question the loop may ask; a second Ctrl-C interrupts at once.

    Outside the main thread signals cannot be caught, and the answer stays False.
    """
    asked = False

    def remember(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    previous: dict[signal.Signals, object] = {}
    try:
        with contextlib.suppress(ValueError):
            for number in (signal.SIGINT, signal.SIGTERM):
                previous[number] = signal.signal(number, remember)
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
