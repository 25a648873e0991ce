"""The machine: which device, which number format, how many tokens at a time, and whether it computes right."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from types import FrameType

import torch
from torch import Tensor

from lasttoken.core.config import DEVICES, PRECISIONS
from lasttoken.core.errors import DeviceError, SettingsError, one_of

TOKENS_AT_A_TIME = {"cpu": 512, "cuda": 16_384, "mps": 4_096}  # CPU: larger blocks fall out of its caches
MALLOC = {-3: 32 << 20, -1: 1 << 30, -2: 64 << 20}  # glibc's M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD; bytes
TOLERANCE = {
    "float32": 1e-2,
    "bfloat16": 0.25,
    "int8": 0.25,
}  # of logits against the CPU's, relative to their spread; TF32 passes


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


def tune_cpu() -> None:
    """Make torch faster on CPUs, for the rest of this process; results stay the same to rounding.

    The commands of the program call it; nothing else does, because both changes concern all code of the process.
    Call it once, before loading a classifier, in a Python program that classifies or trains.

    * Denormal numbers (below 1e-38 in float32) count as zero: arithmetic with them is many times slower. This holds
      for the calling thread and those it starts.
    * Freed memory is kept for the next tensor. By default glibc returns large blocks to the system, which maps and
      clears them again page by page: a third of the time of a training step (benchmarks/2026-11-25-speed.md).
    """
    torch.set_flush_denormal(True)
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library, or Windows
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, n_bytes in MALLOC.items():
            mallopt(parameter, n_bytes)


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
