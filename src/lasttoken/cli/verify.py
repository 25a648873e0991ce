"""The command verify: predictions of other precisions, devices and exports against float32 on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lasttoken.cli.flags import Json, Quiet, RunDirectory
from lasttoken.cli.show import new_table, print_json, print_line, print_table, terminal


def verify(
    run: RunDirectory,
    split: Annotated[str, typer.Option("--split", help="The split whose texts are classified.")] = "test",
    export: Annotated[
        list[Path] | None, typer.Option("--export", help="A folder written by lasttoken export; repeatable.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Count predictions that precisions and exports change.

    Every precision and device of this machine, and the given exports, are compared with float32 on the CPU.
    """
    from lasttoken.core.process import tune_cpu
    from lasttoken.export.verify import verify as compare_precisions

    tune_cpu()
    comparisons = compare_precisions(run, split, export or [])
    if as_json:
        print_json([comparison.to_json() for comparison in comparisons])
        return
    table = new_table("against cpu float32", "texts", "flips", "largest drift", "mean drift")
    for comparison in comparisons:
        cells = ("not checked", "", "", "")
        if comparison.trouble is None:
            drift = (f"{comparison.largest:.1e}", f"{comparison.mean:.1e}")
            cells = (f"{comparison.n:,}", f"{comparison.flips:,}", *drift)
        table.add_row(comparison.name, *cells)
    print_table(table)
    reporter = terminal(quiet)
    for comparison in comparisons:
        if comparison.trouble is not None:
            print_line(f"{comparison.name} was not checked: {comparison.trouble}")
        if comparison.note is not None:
            reporter.say(f"{comparison.name}: {comparison.note}")
