"""Memory of tensors that lie in mapped files, given back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

PAGE_OUT, DONT_NEED = 21, 4  # Linux's MADV_PAGEOUT, which large pages of some file systems ignore; MADV_DONTNEED


def drop_mapped_pages(tensors: Iterable[Tensor], never_written: bool = False) -> None:
    """Let the system reclaim the memory of tensors that lie in mapped files; it reads them again when needed.

    Nothing is lost: other tensors, and pages that were written to, stay as they are. Linux only. `never_written`: the
    caller knows that no page was written to, so that each can be dropped; one that was would be read from its file.
    """
    mapped = _file_mappings()  # reads a file of the system: pass many tensors at once
    advice = DONT_NEED if never_written else PAGE_OUT
    for tensor in tensors:
        start, n_bytes = tensor.data_ptr(), tensor.numel() * tensor.element_size()
        first, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, (start + n_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > first and any(low <= start < high for low, high in mapped):
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), advice)


def _file_mappings() -> list[tuple[int, int]]:
    """Address ranges [first, end) of this process that are mapped from files; none where the system does not say."""
    try:
        lines = Path("/proc/self/maps").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    fields = (line.split(maxsplit=5) for line in lines)  # range, permissions, offset, device, inode, path
    ranges = [part[0].split("-") for part in fields if len(part) == 6 and part[4] != "0"]
    return [(int(low, 16), int(high, 16)) for low, high in ranges]
