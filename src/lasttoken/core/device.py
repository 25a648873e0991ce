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
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from lasttoken.core.config import DEVICES, PRECISIONS
from lasttoken.core.errors import DeviceError, SettingsError, one_of
from lasttoken.core.machine import free_bytes, memory_bytes

if TYPE_CHECKING:
    from lasttoken.core.team import Team

TOKENS_AT_A_TIME = {"cpu": 512, "cuda": 16_384, "mps": 4_096}  # CPU: larger blocks fall out of its caches
TOLERANCE = {"float32": 1e-2, "bfloat16": 0.25, "int8": 0.25}  # of logits, relative to their spread; TF32 passes
BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")  # as torch names them, on x86 and ARM

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Device:
    """A device and the number format to compute in on it."""

    torch_device: torch.device
    precision: str  # float32, bfloat16, or int8, in which only the trunk's linear layers compute in 8 bits
    team: Team | None = field(default=None, compare=False)  # where several processes train together

    @property
    def token_budget(self) -> int:
        """Tokens to compute at a time by default."""
        return TOKENS_AT_A_TIME[self.torch_device.type]

    def autocast(self) -> AbstractContextManager[object]:
        """The context manager in which torch computes in the number format."""
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
    """A device and its number format; auto: CUDA, else MPS, else the CPU, and bfloat16 on CUDA, else float32.

    Raises:
        SettingsError: an unknown device or precision, a device that this machine or this build of torch does not
            have, or int8 on another device than the CPU.
    """
    for flag, value, known in (("--device", device, DEVICES), ("--precision", precision, PRECISIONS)):
        if value not in known:
            raise SettingsError(f"{flag} is {value!r}; use one of {one_of(known)}")
    if precision == "int8" and device not in ("auto", "cpu"):
        raise SettingsError(f"--precision int8 is for the CPU; use --device cpu, or another precision on {device}")
    is_available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = "cpu" if precision == "int8" else next(name for name in is_available if is_available[name])
    if not is_available[device]:
        available = ", ".join(name for name in DEVICES if is_available.get(name))
        raise SettingsError(
            f"--device {device}: torch {torch.__version__} has no such device on this machine, only {available}; use "
            "--device auto"
        )
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return Device(torch.device(device), precision)


def side_by_side(
    compute: Callable[[Item], Result], items: Iterable[Item], device: torch.device | str = "cpu"
) -> Iterator[tuple[Item, Result]]:
    """(item, compute(item)) for each item, in order; on CPUs as many at a time as torch has threads.

    A few results per thread are held. Items are taken from their iterable in the calling thread, as they are needed.
    `compute` runs in other threads, so it has to enter contexts such as torch.no_grad itself. On other devices, with
    one torch thread, or with one item, everything happens in the calling thread.

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
        torch.set_num_threads(n_threads)  # MKL has one number for the whole process; the pool's threads set it to 1


def cpu_has_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16; also True where torch does not say."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases of torch lack it
    return not capabilities or any(capabilities.get(name) for name in BFLOAT16_INSTRUCTIONS)


def free_memory_bytes(device: Device) -> float:
    """The memory that can still be used on a device; where the system does not report it, all of the machine's."""
    if device.torch_device.type == "cuda":
        return float(torch.cuda.mem_get_info(device.torch_device)[0])
    free = free_bytes()
    return memory_bytes() if free is None else float(free)


def compare_logits(expected: Tensor, logits: Tensor, device: Device) -> None:
    """Reject a device whose logits [B, K] differ from the CPU's, which are `expected` [B, K].

    Raises:
        DeviceError: the logits are not finite, or differ by more than rounding explains.
    """
    spread = max(float(expected.abs().max()), 1.0)
    difference = float((expected - logits.float().cpu()).abs().max()) / spread
    if not difference <= TOLERANCE[device.precision]:  # also when it is NaN
        if device.precision == "int8":
            raise DeviceError(
                f"this backbone loses too much precision in 8 bits (relative difference of logits {difference:.2g}, "
                f"allowed {TOLERANCE['int8']:g}); use --precision float32"
            )
        raise DeviceError(
            f"the logits of {device.torch_device.type} differ from the CPU's on the same texts (relative difference "
            f"{difference:.2g}, allowed {TOLERANCE[device.precision]:g}); use --device cpu, or another version of "
            f"torch than {torch.__version__}"
        )
