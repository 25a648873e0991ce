"""Checks of output files before any work: can the file be written afterwards, and may it be replaced?"""

from __future__ import annotations

from pathlib import Path

from lasttoken.core.errors import SettingsError
from lasttoken.core.storage import dangling_link


def check_output(flag: str, path: Path) -> None:
    """Reject a file that could not be written.

    Raises:
        SettingsError: its folder does not exist or is a file, or the path is a folder, a device or a dangling link.
    """
    if path.parent.exists() and not path.parent.is_dir():
        raise SettingsError(f"{flag} {path}: {path.parent} is a file, not a folder; give a path in a folder")
    if not path.parent.is_dir():
        raise SettingsError(f"{flag} {path}: there is no folder {path.parent}; create it first")
    if path.exists() and not path.is_file():
        raise SettingsError(f"{flag} {path} is a folder or a device; give a file")
    if target := dangling_link(path):
        raise SettingsError(
            f"{flag} {path} is a link to {target}, which does not exist; remove the link, or give another file"
        )


def check_free(flag: str, path: Path, overwrite: bool) -> None:
    """Reject a file that exists, unless --overwrite is given.

    Raises:
        SettingsError: the file exists.
    """
    if path.exists() and not overwrite:
        raise SettingsError(f"{flag} {path} already exists; pass --overwrite to replace it, or another {flag}")
