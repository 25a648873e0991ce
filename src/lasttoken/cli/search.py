"""The command search: are there better settings than the default ones?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lasttoken.cli.flags import Json, Offline, Quiet, chosen_settings, with_settings
from lasttoken.cli.show import print_json, print_line, print_metrics, terminal
from lasttoken.core.resolve import read_config, resolve_layers

Data = Annotated[Path, typer.Argument(help="A labelled file (CSV, TSV, JSONL, Parquet), or a folder of splits.")]
Out = Annotated[Path | None, typer.Option("--out", help="Run directory [default: runs/<name of the data>-search].")]
Trials = Annotated[int, typer.Option("--trials", help="Number of trials.")]
Minutes = Annotated[
    float | None, typer.Option("--minutes", help="Start no trial after so many minutes; the last training follows.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a finished run.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue a search that was killed.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file of settings, which are fixed as flags are.")]


@with_settings("search")
def search(
    data: Data,
    out: Out = None,
    trials: Trials = 40,
    minutes: Minutes = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    config: Config = None,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Search for better settings than the default ones.

    A setting that is given as a flag is fixed. Ends as an ordinary run directory: with the settings found if they are
    better by more than chance, otherwise with the default ones.
    """
    layers = read_config(config) if config else {}
    layers.pop("data", None)
    chosen = chosen_settings(flags)
    settings = resolve_layers(layers, chosen)
    from lasttoken.core.process import tune_cpu
    from lasttoken.runs.search.search import SearchRequest, run_search

    tune_cpu()
    reporter = terminal(quiet)
    request = SearchRequest(
        data=data,
        settings=settings,
        given=frozenset({**layers, **chosen}),
        out=out or Path("runs") / f"{data.resolve().name.strip('.').split('.')[0]}-search",
        n_trials=trials,
        minutes=minutes,
        resume=resume,
        overwrite=overwrite,
        offline=offline,
        reporter=reporter,
    )
    run = run_search(request)
    if as_json:
        print_json({**run.metrics, "run": str(run.out)})
    else:
        print_metrics(run.metrics, run.out, reporter)
        print_line(str(run.metrics["search"]["sentence"]))
