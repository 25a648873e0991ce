"""The command compare: runs side by side, with paired tests of their differences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lasttoken.cli.flags import Json, Quiet
from lasttoken.cli.show import new_table, print_json, print_line, print_table, terminal
from lasttoken.core.metric_registry import METRICS, metrics_at

if TYPE_CHECKING:
    from rich.table import Table

    from lasttoken.runs.compare import Comparison


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run directories.")],
    split: Annotated[str, typer.Option("--split", help="The split to compare on: test or validation.")] = "test",
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Test every pair, instead of the best run against each other run.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare runs on the same rows.

    Paired tests say which differences are larger than chance.
    """
    from lasttoken.runs.compare import compare_runs

    comparison = compare_runs(runs, split, all_pairs)
    if as_json:
        print_json(comparison.to_json())
        return
    print_table(_table(comparison), width=120)
    for pair in comparison.pairs:
        test = "paired bootstrap" if pair.p_value is None else f"exact McNemar p = {pair.p_value:.2g}"
        print_line(f"{pair.sentence.removesuffix('.')}; {test}.")
    if len(comparison.pairs) > 1:
        terminal(quiet).say(
            f"{len(comparison.pairs)} differences are tested at 95% each: about one in 20 of those that are due to "
            "chance will look significant"
        )


def _table(comparison: Comparison) -> Table:
    measure = comparison.pairs[0].measure
    metrics = [METRICS[measure], *(metric for metric in metrics_at("compare") if metric.name != measure)]
    metrics = [metric for metric in metrics if metric.name in comparison.runs[0].metrics]
    table = new_table(f"{comparison.split}, {comparison.n:,} rows", overflow="fold")
    for title in ("backbone", *(metric.title for metric in metrics), "seconds"):
        table.add_column(title, justify="left" if title == "backbone" else "right", no_wrap=title != "backbone")
    for run in comparison.runs:
        cells = [metric.formatted(run.metrics) for metric in metrics]
        table.add_row(run.name, run.backbone, *cells, f"{run.seconds:.0f}")
    return table
