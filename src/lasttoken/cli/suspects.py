"""The command suspects: which labels look wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lasttoken.cli.flags import Json, Offline, Quiet, given, with_settings
from lasttoken.cli.show import check_free, check_output, print_json, print_line, terminal
from lasttoken.core.config import resolve
from lasttoken.core.storage import exclusive

FOLDS = 5
SHOWN = 10


def add_commands(app: typer.Typer) -> None:
    """Put this file's command on the program."""
    app.command()(suspects)


@with_settings("suspects")
def suspects(
    data: Annotated[
        Path, typer.Argument(help="A labelled file, or a folder of splits, whose train split is looked at.")
    ],
    out: Annotated[Path, typer.Option("--out", help="CSV file to write, all rows, the most suspect first.")] = Path(
        "suspects.csv"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Rank the rows of a labelled file by how wrong their labels look."""
    from lasttoken.core.process import tune_cpu
    from lasttoken.runs.label_errors import find_suspects, write_suspects

    check_output("--out", out)
    chosen = given(flags)
    n_folds = chosen.pop("folds", 0) or FOLDS
    settings = resolve(chosen.get("recipe", "default"), chosen)
    reporter = terminal(quiet)
    with exclusive(out):
        check_free("--out", out, overwrite)
        tune_cpu()
        found, n_estimated = find_suspects(data, settings, n_folds, offline, reporter)
        write_suspects(out, found)
    judged = [one for one in found if one.margin is not None]
    shown = judged[: max(1, min(n_estimated, SHOWN))]
    if as_json:
        first = [vars(one) for one in shown]
        n_skipped = len(found) - len(judged)
        counts = {"rows": len(found), "not_judged": n_skipped, "estimated": n_estimated}
        print_json({"out": str(out), **counts, "first": first})
        return
    print_line(
        f"about {n_estimated:,} of {len(judged):,} labels look wrong; all rows, the most suspect first, are in {out}"
    )
    for one in shown:
        text = " ".join(one.text.split())[:100]
        print_line(f"row {one.row}\t{one.label}\tsuggested {one.suggested}\t{one.margin:+.3f}\t{text}")
