"""The device that computes: its choice, its number format, how it runs batches, and a check of its results.

On a CPU batches run side by side, one thread for each:

    batches ─► core 0: batch 0 ─────► batch 2 ──►        no thread waits at a barrier
               core 1: batch 1 ──► batch 3 ─────►        results come back in the order of the batches

torch's default is one batch at a time with every operation spread over all cores. Its threads then meet at a barrier
after each operation, some hundred times a batch, and spin while they wait. That is slower, and several times slower
when another program occupies one of the cores (benchmarks/2026-11-26-busy.md). Side by side, each batch is computed
by one thread, so the results are the same bits for any number of cores; a single batch uses all threads.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain, islice
from typing import TypeVar

import torch
from torch import Tensor

from lasttoken.core.config import DEVICES, PRECISIONS
from lasttoken.core.errors import DeviceError, SettingsError, one_of

TOKENS_AT_A_TIME = {"cpu": 512, "cuda": 16_384, "mps": 4_096}  # CPU: larger blocks fall out of its caches
TOLERANCE = {
    "float32": 1e-2,
    "bfloat16": 0.25,
    "int8": 0.25,
}  # of logits against the CPU's, relative to their spread; TF32 passes


Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Device:
    """A device and the number format to compute in on it."""

    torch_device: torch.device
    precision: str  # float32, bfloat16, or int8: float32 but for the trunk's linear layers

    @property
    def token_budget(self) -> int:
        """Tokens computed at a time where nothing else decides it."""
        return TOKENS_AT_A_TIME[self.torch_device.type]

    def autocast(self) -> AbstractContextManager[object]:
        """The context to compute in."""
        if self.precision != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(self.torch_device.type, torch.bfloat16)

    def run(
        self, compute: Callable[[Item], Result], batches: Iterable[Item], *, parallel: bool = True
    ) -> Iterator[tuple[Item, Result]]:
        """(batch, compute(batch)) for each batch, in order, without gradients and in this device's number format.

        `parallel=False`: one batch at a time also on a CPU, for callers that run in several threads themselves.

        Raises:
            Whatever `compute` or the iterable raises.
        """

        def in_context(batch: Item) -> Result:
            with torch.inference_mode(), self.autocast():
                return compute(batch)

        if parallel:
            return side_by_side(in_context, batches, self.torch_device)
        return ((batch, in_context(batch)) for batch in batches)


CPU = Device(torch.device("cpu"), "float32")


def pick_device(device: str = "auto", precision: str = "auto") -> Device:
    """The device asked for, or the best there is; bfloat16 by itself only on CUDA, int8 only on the CPU.

    Raises:
        SettingsError: a device that this machine, or this build of torch, does not have, no device at all, or one
            that does not go with the precision.
    """
    for flag, value, known in (("--device", device, DEVICES), ("--precision", precision, PRECISIONS)):
        if value not in known:
            raise SettingsError(f"{flag} is {value!r}; use one of {one_of(known)}")
    if precision == "int8" and device not in ("auto", "cpu"):
        raise SettingsError(f"--precision int8 is for the CPU; use --device cpu, or another precision on {device}")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = "cpu" if precision == "int8" else "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there[device]:
        found = ", ".join(name for name, present in there.items() if present)
        raise SettingsError(
            f"--device {device}: torch {torch.__version__} finds none here; it finds {found}, so use --device auto"
        )
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return Device(torch.device(device), precision)


def side_by_side(
    compute: Callable[[Item], Result], items: Iterable[Item], device: torch.device | str = "cpu"
) -> Iterator[tuple[Item, Result]]:
    """(item, compute(item)) for each item, in order; on CPUs as many at a time as torch has threads.

    A few results are held at most. Items are taken from their iterable in the calling thread, as they are needed.
    `compute` runs in other threads, so contexts such as torch.no_grad have to be entered inside it. On other devices,
    with one torch thread and with one item, everything happens in the calling thread.

    Raises:
        Whatever `compute` or the iterable raises; items that have not been started are dropped.
    """
    remaining = iter(items)
    first = list(islice(remaining, 2))
    n_threads = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    if n_threads == 1 or len(first) < 2:
        for item in chain(first, remaining):
            yield item, compute(item)
        return
    pool = ThreadPoolExecutor(n_threads, "batch", initializer=lambda: torch.set_num_threads(1))
    running: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in chain(first, remaining):
            running.append((item, pool.submit(compute, item)))
            if len(running) > 2 * n_threads:
                item, future = running.popleft()
                yield item, future.result()
        while running:
            item, future = running.popleft()
            yield item, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)  # MKL's number is the process's, and the threads above have set it to one


def memory_bytes() -> float:
    """The machine's memory; infinite where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return float("inf")


def compare_logits(expected: Tensor, found: Tensor, device: Device) -> None:
    """Refuse a device whose logits [B, K] are not the CPU's.

    Raises:
        DeviceError: not finite, or further from the CPU's than rounding explains.
    """
    found = found.float().cpu()
    spread = max(float(expected.abs().max()), 1.0)
    difference = float((expected - found).abs().max()) / spread
    if not difference <= TOLERANCE[device.precision]:  # also when it is NaN
        if device.precision == "int8":
            raise DeviceError(
                f"this backbone loses too much in 8 bits (relative difference of its logits {difference:.2g}, "
                f"allowed {TOLERANCE['int8']:g}); use --precision float32"
            )
        raise DeviceError(
            f"{device.torch_device.type} computes other logits than the CPU on the same texts (relative "
            f"difference {difference:.2g}, "
            f"allowed {TOLERANCE[device.precision]:g}); use --device cpu, or try another torch than "
            f"{torch.__version__}"
        )
