"""The command suspects: the rows whose labels are probably wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lasttoken.cli.flags import Json, Offline, Quiet, chosen_settings, with_settings
from lasttoken.cli.outputs import check_free, check_output
from lasttoken.cli.show import print_json, print_line, terminal
from lasttoken.core.locks import exclusive
from lasttoken.core.resolve import resolve_layers

FOLDS = 5
MAX_SHOWN = 10  # rows
MAX_CHARACTERS = 100  # of a text


@with_settings("suspects")
def suspects(
    data: Annotated[
        Path, typer.Argument(help="A labelled file, or a folder of splits whose train split is to be checked.")
    ],
    out: Annotated[Path, typer.Option("--out", help="CSV file to write: all rows, the most suspect first.")] = Path(
        "suspects.csv"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Rank rows by how likely their labels are wrong.

    Each row is judged by a classifier that was trained without it.
    """
    from lasttoken.core.process import tune_cpu
    from lasttoken.runs.label_errors import find_suspects, write_suspects

    check_output("--out", out)
    chosen = chosen_settings(flags)
    n_folds = chosen.pop("folds", 0) or FOLDS
    settings = resolve_layers(chosen)
    with exclusive(out):
        check_free("--out", out, overwrite)
        tune_cpu()
        rows, n_estimated = find_suspects(data, settings, n_folds, offline, terminal(quiet))
        write_suspects(out, rows)
    ranked = [row for row in rows if row.margin is not None]
    first = ranked[: max(1, min(n_estimated, MAX_SHOWN))]
    if as_json:
        counts = {"rows": len(rows), "not_judged": len(rows) - len(ranked), "estimated": n_estimated}
        print_json({"out": str(out), **counts, "first": [vars(row) for row in first]})
        return
    print_line(
        f"about {n_estimated:,} of {len(ranked):,} labels look wrong; all rows, the most suspect first, are in {out}"
    )
    for row in first:
        text = " ".join(row.text.split())[:MAX_CHARACTERS]
        print_line(f"row {row.row}\t{row.label}\tsuggested {row.suggested}\t{row.margin:+.3f}\t{text}")
