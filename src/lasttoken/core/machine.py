"""What the machine, or the container, lends to a process: cores and memory.

A container's limits are read from cgroup 2 (`cpu.max`, `memory.max`); the cores and the memory that the system reports
are those of the whole machine.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from lasttoken.core.errors import SettingsError

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
THREADS_VARIABLE = "OMP_NUM_THREADS"
LEAST_BYTES = 200_000_000  # of a process, without a model: what Python and torch do not share


def usable_cores(cgroup: Path = CGROUP) -> int:
    """The cores that this process may use: those it is bound to, and no more than the container's share."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    words = _read(cgroup / "cpu.max").split()  # such as "150000 100000": one and a half cores
    if len(words) == 2 and all(word.isdigit() for word in words):
        n_cores = min(n_cores, math.ceil(int(words[0]) / int(words[1])))
    return max(1, n_cores)


def threads_per_worker(n_workers: int, n_threads: int | None = None) -> int:
    """The cores, or `n_threads`, shared out; at least one. OMP_NUM_THREADS, if it is set, holds for each worker."""
    given = os.environ.get(THREADS_VARIABLE, "")
    return int(given) if given.isdigit() and int(given) > 0 else max(1, (n_threads or usable_cores()) // n_workers)


def memory_bytes(cgroup: Path = CGROUP) -> float:
    """The memory of the machine, or of the container if that is less; infinite if the system reports neither."""
    limit = _read(cgroup / "memory.max").strip()
    of_container = float(limit) if limit.isdigit() else math.inf
    try:
        return min(float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")), of_container)
    except (AttributeError, ValueError, OSError):
        return of_container


def free_bytes(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """The memory that can still be used, of the machine and of the container; None if the system does not report it."""
    available = _field(_read(meminfo), "MemAvailable")
    limit, used = _read(cgroup / "memory.max").strip(), _read(cgroup / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        reclaimable = _first_number(_read(cgroup / "memory.stat"), "inactive_file")
        left = max(0, int(limit) - int(used) + reclaimable)
        return left if available is None else min(available, left)
    return available


def own_bytes(pid: int) -> int | None:
    """The memory that a process shares with no other and did not read from a file; None if unknown."""
    return _field(_read(Path(f"/proc/{pid}/smaps_rollup")), "Private_Dirty")


def check_room(n_workers: int) -> None:
    """Reject so many processes that the machine would have no memory left before one of them has a model.

    Raises:
        SettingsError: it names a number that fits.
    """
    free = free_bytes()
    if free is not None and n_workers * LEAST_BYTES > free:
        raise SettingsError(
            f"--workers is {n_workers}, but each takes {LEAST_BYTES / 1e9:.1f} GB without its model and "
            f"{free / 1e9:.1f} GB are free; give at most --workers {max(1, free // LEAST_BYTES)}"
        )


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""


def _field(text: str, name: str) -> int | None:
    """Bytes of a line such as "MemAvailable:  123 kB"."""
    line = next((line for line in text.splitlines() if line.startswith(f"{name}:")), None)
    return None if line is None else 1024 * int(line.split()[1])


def _first_number(text: str, name: str) -> int:
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} ")), 0)
