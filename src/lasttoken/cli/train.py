"""The command train: a run directory from a labelled file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lasttoken.cli.flags import Json, Offline, Quiet, chosen_settings, with_settings
from lasttoken.cli.show import print_json, print_metrics, terminal
from lasttoken.core.config import Settings
from lasttoken.core.errors import SettingsError
from lasttoken.core.progress import Reporter
from lasttoken.core.ranks import Rank
from lasttoken.core.resolve import read_config

if TYPE_CHECKING:
    from lasttoken.runs.train import TrainedRun

Data = Annotated[Path | None, typer.Argument(help="A labelled file (CSV, TSV, JSONL, Parquet), or a folder of splits.")]
Out = Annotated[Path | None, typer.Option("--out", help="Run directory [default: runs/<name of the data>].")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a finished run.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue a run that was killed.")]
Workers = Annotated[
    int, typer.Option("--workers", help="Processes of this machine that share the trunk and the tail's training.")
]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file of settings, such as another run's run.toml.")]
CheckpointEvery = Annotated[float, typer.Option("--checkpoint-every", help="Seconds between checkpoints for --resume.")]
OnlyBaselines = Annotated[
    bool, typer.Option("--only-baselines", help="Only measure the baselines, in seconds; writes nothing.")
]


@with_settings("train")
def train(
    data: Data = None,
    out: Out = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    config: Config = None,
    checkpoint_every: CheckpointEvery = 30.0,
    workers: Workers = 1,
    only_baselines: OnlyBaselines = False,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Train a classifier and write a run directory.

    The directory contains weights, metrics, learning curves and a report.
    """
    if _helped():
        return
    layers = read_config(config) if config else {}
    recorded = layers.pop("data", None)
    data = data or (Path(recorded) if recorded else None)
    if data is None and not resume:
        raise SettingsError("no data is given; name a file or a folder of splits: lasttoken train messages.csv")
    from lasttoken.runs.settings import run_settings

    out = out or (Path("runs") / data.resolve().name.strip(".").split(".")[0] if data else None)
    settings = run_settings(chosen_settings(flags), layers, resumed=out if resume else None)
    reporter = terminal(quiet)
    if only_baselines:
        _print_baselines(data, settings, as_json, reporter, workers)
        return
    from lasttoken.core.process import tune_cpu
    from lasttoken.runs.train import TrainingRequest, train_run

    tune_cpu()
    request = TrainingRequest(
        data=data,
        settings=settings,
        out=out,
        resume=resume,
        overwrite=overwrite,
        offline=offline,
        checkpoint_every_s=checkpoint_every,
        workers=workers,
        reporter=reporter,
    )
    _print_run(train_run(request), as_json, reporter)


def _helped() -> bool:
    """Whether this process is not the first of several, in which case it has done its part."""
    rank = Rank.from_environment()
    if rank is None or rank.leads:
        return False
    from lasttoken.runs.processes import help_rank_0

    help_rank_0(rank)
    return True


def _print_run(run: TrainedRun, as_json: bool, reporter: Reporter) -> None:
    if as_json:
        print_json({**run.metrics, "run": str(run.out)})
    else:
        print_metrics(run.metrics, run.out, reporter)


def _print_baselines(data: Path | None, settings: Settings, as_json: bool, reporter: Reporter, workers: int) -> None:
    """Measure the baselines and print their metrics.

    Raises:
        SettingsError: no data is given, or several processes are to share it.
    """
    if workers != 1 or Rank.from_environment() is not None:
        raise SettingsError("--only-baselines has nothing to share among processes; leave --workers out")
    if data is None:
        raise SettingsError("--only-baselines needs data; name a file or a folder of splits")
    from lasttoken.runs.baselines_only import measure_baselines

    metrics = measure_baselines(data, settings, reporter)
    print_json(metrics) if as_json else print_metrics(metrics, None, reporter)
