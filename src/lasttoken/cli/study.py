"""The command study: a table of trainings that share what they can."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lasttoken.cli.flags import Json, Offline, Quiet
from lasttoken.cli.show import new_table, print_json, print_line, print_table, terminal
from lasttoken.core.metric_registry import METRICS
from lasttoken.core.progress import Reporter

if TYPE_CHECKING:
    from rich.table import Table


def study(
    study: Annotated[str, typer.Argument(help="A TOML file of rows, or book: the experiments table of chapter 6.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder [default: runs/study-<name>].")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="A labelled file, or a folder of splits.")] = None,
    rows: Annotated[
        str | None, typer.Option("--rows", help="Rows to train, separated by commas, such as 1,2,13; default: all.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Number of seeds, or the seeds, such as 123,124 or 123,. [default: 5]")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the train split, of all rows.")] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="With book: a backbone in place of the small GPT-2.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing study.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the trainings of an existing study that are unchanged.")
    ] = False,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a table of settings and compare its rows.

    Rows and seeds share the frozen part of the network. The result is a table as CSV, JSON and a page.
    """
    from lasttoken.core.process import tune_cpu
    from lasttoken.runs.study import StudyRequest, run_study
    from lasttoken.runs.study_file import BOOK, Choices, book_study, read_study

    choices = Choices(data=data, seeds=seeds, epochs=epochs, rows=rows, backbone=backbone)
    made = book_study(choices) if study == BOOK else read_study(Path(study), choices)
    out = out or Path("runs") / f"study-{made.name}"
    reporter = terminal(quiet)
    tune_cpu()
    request = StudyRequest(study=made, out=out, resume=resume, overwrite=overwrite, offline=offline, reporter=reporter)
    table = run_study(request)
    if as_json:
        print_json({**table, "folder": str(out)})
        return
    _print(table, reporter)
    reporter.say(f"page: {out / 'study.html'}")


def _print(table: Mapping[str, Any], reporter: Reporter) -> None:
    print_table(_table(table), width=140)
    for row in table["rows"]:
        if row.get("difference"):
            print_line(row["difference"]["sentence"])
        elif "without_results" in row:
            print_line(f"{row['row']}: {row['without_results']}")
    n_differences = sum(bool(row.get("difference")) for row in table["rows"])
    if n_differences > 1:
        reporter.say(
            f"{n_differences} differences are tested at 95% each: about one in 20 of those that are due to chance will "
            "look significant"
        )


def _table(content: Mapping[str, Any]) -> Table:
    headline = METRICS[content["headline"]]
    n_seeds = len(content["seeds"])
    title = f"{content['split']}, {content['n']:,} rows, {n_seeds} seed{'s' if n_seeds > 1 else ''}"
    columns = (headline.title, "sd", "validation loss", "difference", "trained", "seconds")
    table = new_table(title, *columns, overflow="fold")
    for row in content["rows"]:
        if "metrics" not in row:
            table.add_row(row["row"], *("–" for _ in columns))
            continue
        summary = row["metrics"][headline.name]
        of_mean = headline.formatted({headline.name: summary["mean"], f"{headline.name}_ci95": summary["ci95"]})
        table.add_row(
            row["row"],
            of_mean,
            headline.formatted({headline.name: summary["sd"]}),
            f"{row['validation_loss']['mean']:.3f}",
            _difference(row),
            f"{row['trained_parameters']:,}",
            f"{row['seconds']:.1f}",
        )
    return table


def _difference(row: Mapping[str, Any]) -> str:
    """The difference to the first row in points, with its interval."""
    difference = row.get("difference")
    if not difference:
        return f"same as {row['same_as']}" if row.get("same_as") else ""
    low, high = difference["ci95"]
    return f"{difference['value'] * 100:+.1f} ({low * 100:+.1f} to {high * 100:+.1f})"
