"""The command cache: where it is, how large, and clearing it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from lasttoken.cli.flags import Json, Quiet
from lasttoken.cli.show import print_json, print_line, terminal
from lasttoken.core.errors import SettingsError
from lasttoken.core.storage import CACHE_VARIABLE, cache_dir, storage_errors, sweep_temporaries

FOLDERS = {"features": "features", "downloads": "datasets", "logs": "logs"}  # each kind's folder in the cache


def add_commands(app: typer.Typer) -> None:
    """Put this file's command on the program."""
    app.command()(cache)


def cache(
    clear: Annotated[
        Literal["features", "downloads", "logs", "all"] | None,
        typer.Option("--clear", help="Delete this kind of content. Backbones stay: the hub's cache holds them."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show where the cache is and how large, or clear it. LASTTOKEN_CACHE names another folder."""
    kinds: list[str] = list(FOLDERS) if clear == "all" else [clear] if clear else []
    if kinds:
        _clear(kinds, yes, quiet)
    sizes = {kind: _size(cache_dir() / folder) for kind, folder in FOLDERS.items()}
    if as_json:
        content = {kind: {"bytes": n_bytes, "files": n_files} for kind, (n_bytes, n_files) in sizes.items()}
        print_json({"path": str(cache_dir()), **content, "backbones": str(_hub_cache())})
        return
    print_line(f"{cache_dir()} (set {CACHE_VARIABLE} to use another folder)")
    for kind, (n_bytes, n_files) in sizes.items():
        print_line(f"{kind}\t{n_bytes:,} bytes\t{n_files:,} files")
    print_line(f"backbones\t{_hub_cache()} (the Hugging Face hub's cache, which other programs use too)")


def _clear(kinds: list[str], yes: bool, quiet: bool) -> None:
    """Delete what is in the folders of these kinds, after asking.

    Raises:
        SettingsError: there is nobody to ask.
        StorageError: no permission.
    """
    folders = [cache_dir() / FOLDERS[kind] for kind in kinds]
    total = sum(_size(folder)[0] for folder in folders)
    if not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise SettingsError(f"--clear deletes {total:,} bytes in {cache_dir()}; pass --yes to confirm it")
        if not typer.confirm(f"delete {total:,} bytes of {' and '.join(kinds)} in {cache_dir()}?", err=True):
            raise typer.Exit(1)
    for folder in folders:
        with storage_errors(folder):
            for entry in list(folder.iterdir()) if folder.is_dir() else []:
                if ".tmp-" in entry.name:
                    continue  # a running command is writing it
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink(missing_ok=True)
        sweep_temporaries(folder)
    terminal(quiet).say(f"{total:,} bytes were deleted")


def _size(folder: Path) -> tuple[int, int]:
    """The bytes in a folder and the number of its files."""
    sizes = list(_sizes(folder))
    return sum(sizes), len(sizes)


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                yield path.stat().st_size
        except OSError:  # another process has just removed it
            continue


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
