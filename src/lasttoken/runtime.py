"""The machine: which device, which number format, how many tokens at a time, and whether it computes right."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import FrameType

import torch
from torch import Tensor

from lasttoken.config import DEVICES, PRECISIONS
from lasttoken.errors import DeviceError, SettingsError, one_of

TOKENS_AT_A_TIME = {"cpu": 512, "cuda": 16_384, "mps": 4_096}  # CPU: larger blocks fall out of its caches
TOLERANCE = {"float32": 1e-2, "bfloat16": 0.25}  # of logits against the CPU's, relative to their spread; TF32 passes


@dataclass(frozen=True)
class Machine:
    """A device and the number format to compute in on it."""

    device: torch.device
    precision: str  # float32 or bfloat16

    @property
    def token_budget(self) -> int:
        """Tokens computed at a time where nothing else decides it."""
        return TOKENS_AT_A_TIME[self.device.type]

    def autocast(self) -> AbstractContextManager[object]:
        """The context to compute in."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


CPU = Machine(torch.device("cpu"), "float32")


def pick_machine(device: str = "auto", precision: str = "auto") -> Machine:
    """The device asked for, or the best there is; bfloat16 by itself only on CUDA.

    Raises:
        SettingsError: a device that this machine, or this build of torch, does not have, or no device at all.
    """
    for flag, value, known in (("--device", device, DEVICES), ("--precision", precision, PRECISIONS)):
        if value not in known:
            raise SettingsError(f"{flag} is {value!r}; use one of {one_of(known)}")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there[device]:
        found = ", ".join(name for name, present in there.items() if present)
        raise SettingsError(
            f"--device {device}: torch {torch.__version__} finds none here; it finds {found}, so use --device auto"
        )
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return Machine(torch.device(device), precision)


def quicken_cpu() -> None:
    """Treat numbers below 1e-38 as zero: on CPUs, arithmetic with them is many times slower."""
    torch.set_flush_denormal(True)


def compare_logits(expected: Tensor, found: Tensor, machine: Machine) -> None:
    """Refuse a device whose logits [B, K] are not the CPU's.

    Raises:
        DeviceError: not finite, or further from the CPU's than rounding explains.
    """
    found = found.float().cpu()
    spread = max(float(expected.abs().max()), 1.0)
    difference = float((expected - found).abs().max()) / spread
    if not difference <= TOLERANCE[machine.precision]:  # also when it is NaN
        raise DeviceError(
            f"{machine.device.type} computes other logits than the CPU on the same texts (relative "
            f"difference {difference:.2g}, "
            f"allowed {TOLERANCE[machine.precision]:g}); use --device cpu, or try another torch than "
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
