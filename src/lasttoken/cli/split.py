"""The command split: train, validation and test files from one labelled file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lasttoken.cli.flags import Json, Quiet, chosen_settings, with_settings
from lasttoken.cli.show import print_json, print_line, terminal
from lasttoken.core.resolve import read_config, resolve_layers


@with_settings("split")
def split(
    data: Annotated[Path, typer.Argument(help="A labelled file.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for train.csv, validation.csv and test.csv.")] = Path(
        "splits"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file of settings.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Split a labelled file into train, validation and test.

    The rows are balanced and split as a training with the same settings would.
    """
    from lasttoken.data.label_tables import label_counts
    from lasttoken.runs.split import split_data

    layers = read_config(config) if config else {}
    layers.pop("data", None)
    settings = resolve_layers(layers, chosen_settings(flags))
    splits = split_data(data, settings, out, overwrite=overwrite, reporter=terminal(quiet))
    counts = {name: label_counts(examples) for name, examples in splits.named().items()}
    if as_json:
        rows = {name: sum(by_label.values()) for name, by_label in counts.items()}
        print_json({"out": str(out), "rows": rows, "labels": counts})
        return
    for name, by_label in counts.items():
        cells = (f"{label} {n}" for label, n in by_label.items())
        print_line("\t".join([name, str(sum(by_label.values())), *cells]))
