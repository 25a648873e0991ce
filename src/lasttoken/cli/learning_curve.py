"""The command learning-curve: would more labels help?"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lasttoken.cli.flags import Json, Offline, Quiet, chosen_settings, with_settings
from lasttoken.cli.outputs import check_free, check_output
from lasttoken.cli.show import new_table, percent, print_json, print_line, print_table, terminal
from lasttoken.core.errors import SettingsError, one_of
from lasttoken.core.locks import exclusive
from lasttoken.core.resolve import resolve_layers

if TYPE_CHECKING:
    from rich.table import Table

PLOT_SUFFIXES = (".svg", ".pdf", ".png")


@with_settings("learning-curve")
def learning_curve(
    data: Annotated[Path, typer.Argument(help="A labelled file, or a folder of splits.")],
    out: Annotated[Path | None, typer.Option("--out", help="File for a plot: .svg, .pdf or .png.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Show whether more labels would help.

    Trains on growing parts of the train split. Writes no run directory.
    """
    from lasttoken.core.process import tune_cpu
    from lasttoken.report.plots import draw_learning_curve
    from lasttoken.runs.train import TrainingRequest, train_run

    if out and out.suffix not in PLOT_SUFFIXES:
        raise SettingsError(f"--out {out} ends in {out.suffix!r}; use one of {one_of(PLOT_SUFFIXES)}")
    if out:
        check_output("--out", out)
    settings = resolve_layers(chosen_settings(flags), {"learning_curve": True})
    reporter = terminal(quiet)
    with exclusive(out) if out else nullcontext():
        if out:
            check_free("--out", out, overwrite)
        tune_cpu()
        run = train_run(TrainingRequest(data=data, settings=settings, offline=offline, reporter=reporter))
        if "learning_curve" not in run.metrics:
            raise SettingsError("the learning curve was interrupted before its first point; run it again")
        curve = run.metrics["learning_curve"]
        if out:
            draw_learning_curve(curve, out)
            reporter.say(f"plot: {out}")
    if as_json:
        print_json(curve)
        return
    print_table(_table(curve))
    print_line(curve["sentence"])


def _table(curve: dict[str, Any]) -> Table:
    columns = ("train rows", "GPT", "95% interval", str(curve["baseline"]), "95% interval")
    table = new_table(*columns, left=0)
    for point in curve["points"]:
        gpt = _cells(point, "accuracy", "accuracy_ci95")
        table.add_row(f"{point['n_train']:,}", *gpt, *_cells(point, "baseline_accuracy", "baseline_ci95"))
    return table


def _cells(point: dict[str, Any], value: str, interval: str) -> list[str]:
    if point.get(value) is None:
        return ["–", ""]
    low, high = point[interval]
    return [percent(point[value]), f"{percent(low)} to {percent(high)}"]
