"""The command cache: where the cache is, how large it is, and clearing it."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from lasttoken.cli.flags import Json, Quiet
from lasttoken.cli.show import print_json, print_line, terminal
from lasttoken.core.cache import FOLDERS, usage
from lasttoken.core.cache import clear as delete
from lasttoken.core.errors import SettingsError
from lasttoken.core.storage import CACHE_VARIABLE, cache_dir


def cache(
    clear: Annotated[
        Literal["features", "downloads", "weights", "logs", "all"] | None,
        typer.Option("--clear", help="Delete this content. Backbones of the hub stay: they are in its own cache."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking for confirmation.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show or clear the cache.

    LASTTOKEN_CACHE names another folder.
    """
    kinds: list[str] = list(FOLDERS) if clear == "all" else [clear] if clear else []
    if kinds:
        if not yes:
            _confirm(kinds)
        terminal(quiet).say(f"{delete(kinds):,} bytes were deleted")
    from huggingface_hub.constants import HF_HUB_CACHE

    sizes = {kind: usage(kind) for kind in FOLDERS}
    if as_json:
        content = {kind: {"bytes": size.n_bytes, "files": size.n_files} for kind, size in sizes.items()}
        print_json({"path": str(cache_dir()), **content, "backbones": HF_HUB_CACHE})
        return
    print_line(f"{cache_dir()} (set {CACHE_VARIABLE} to use another folder)")
    for kind, size in sizes.items():
        print_line(f"{kind}\t{size.n_bytes:,} bytes\t{size.n_files:,} files")
    print_line(f"backbones\t{HF_HUB_CACHE} (the Hugging Face hub's cache, which other programs use too)")


def _confirm(kinds: list[str]) -> None:
    """Ask before deleting.

    Raises:
        SettingsError: stdin is not a terminal.
        typer.Exit: the user says no.
    """
    n_bytes = sum(usage(kind).n_bytes for kind in kinds)
    if sys.stdin is None or not sys.stdin.isatty():
        raise SettingsError(f"--clear deletes {n_bytes:,} bytes in {cache_dir()}; pass --yes to confirm it")
    if not typer.confirm(f"delete {n_bytes:,} bytes of {' and '.join(kinds)} in {cache_dir()}?", err=True):
        raise typer.Exit(1)
