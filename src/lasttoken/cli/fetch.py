"""The command fetch: data sets and pretrained weights, downloaded into the cache and checked."""

from __future__ import annotations

from typing import Annotated

import typer

from lasttoken.cli.flags import Json, Offline, Quiet
from lasttoken.cli.show import print_json, print_line, terminal


def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="Data sets and backbones; without a name: list them.")
    ] = None,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download data sets and backbones into the cache.

    Downloads are checked, and their paths are printed.
    """
    from lasttoken.runs.fetch import catalog, check_name
    from lasttoken.runs.fetch import fetch as fetch_one

    if names:
        for name in names:
            check_name(name)
        reporter = terminal(quiet)
        paths = {name: str(fetch_one(name, offline=offline, reporter=reporter)) for name in names}
        print_json(paths) if as_json else print_line("\n".join(paths.values()))
        return
    entries = catalog()
    print_json(entries) if as_json else print_line("\n".join(f"{name}\t{text}" for name, text in entries.items()))
