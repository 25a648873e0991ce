"""The folder of an export: it appears when everything in it is written and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lasttoken.core.errors import SettingsError
from lasttoken.core.locks import exclusive
from lasttoken.core.storage import new_dir


@dataclass(frozen=True)
class Exported:
    """A finished export. `notes` are sentences about what the format cannot hold."""

    folder: Path
    notes: tuple[str, ...]
    largest_difference: float | None  # between its logits and ours; None: not checked


@contextmanager
def new_export(out: Path) -> Iterator[Path]:
    """A temporary folder to export to; it becomes `out` if the block raises nothing.

    Raises:
        SettingsError: `out` already exists.
        RunError: another process exports to it.
        StorageError: no permission, or a full disk.
    """
    with exclusive(out):
        if out.exists() or out.is_symlink():
            raise SettingsError(f"--out {out} already exists; give another folder")
        with new_dir(out, first_stays=False) as folder:
            yield folder
