"""The command compare: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lasttoken.cli.flags import Json, Quiet
from lasttoken.cli.show import bounded, new_table, print_json, print_line, print_table, terminal

if TYPE_CHECKING:
    from rich.table import Table

    from lasttoken.runs.compare import Comparison


def add_commands(app: typer.Typer) -> None:
    """Put this file's command on the program."""
    app.command()(compare)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, two or more.")],
    split: Annotated[str, typer.Option("--split", help="The split to compare on: test or validation.")] = "test",
    all_pairs: Annotated[bool, typer.Option("--all-pairs", help="Each pair, not the best with every other.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put runs side by side, and say which differences are more than chance: the same rows, a paired test."""
    from lasttoken.runs.compare import compare_runs

    found = compare_runs(runs, split, all_pairs)
    if as_json:
        print_json(found.to_json())
        return
    print_table(_table(found), width=120)
    for pair in found.pairs:
        test = "paired bootstrap" if pair.p_value is None else f"exact McNemar p = {pair.p_value:.2g}"
        print_line(f"{pair.sentence.removesuffix('.')}; {test}.")
    if len(found.pairs) > 1:
        terminal(quiet).say(
            f"{len(found.pairs)} differences at 95 % each: about one in 20 that are chance looks like more"
        )


def _table(found: Comparison) -> Table:
    measure = found.pairs[0].measure
    shown = {measure: "accuracy" if measure == "accuracy" else "micro-F1", "macro_f1": "macro-F1", "ece": "ECE"}
    shown = {key: name for key, name in shown.items() if key in found.runs[0].figures}
    table = new_table(f"{found.split}, {found.n:,} rows", overflow="fold")
    for name in ("backbone", *shown.values(), "seconds"):
        table.add_column(name, justify="left" if name == "backbone" else "right", no_wrap=name != "backbone")
    for run in found.runs:
        cells = [bounded(run.figures, key) for key in shown]
        table.add_row(run.name, run.backbone, *cells, f"{run.seconds:.0f}")
    return table
