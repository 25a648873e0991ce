"""The commands that make classifiers: train, split, fetch, demo."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lasttoken.cli.flags import Json, Offline, Quiet, given, with_settings
from lasttoken.cli.show import print_json, print_line, print_metrics, terminal
from lasttoken.core.config import Settings, read_config, resolve
from lasttoken.core.errors import RunError, SettingsError, UserError, nearest, one_of
from lasttoken.core.progress import Reporter
from lasttoken.core.storage import dangling_link, exclusive

if TYPE_CHECKING:
    from lasttoken.classifier.run_dir import RunDir
    from lasttoken.data.splits import Splits

DEMO_OUT = Path("runs/demo")


def add_commands(app: typer.Typer) -> None:
    """Put this file's commands on the program."""
    for command in (demo, fetch, split, train):
        app.command()(command)


@with_settings("train")
def train(
    data: Annotated[
        Path | None, typer.Argument(help="A labelled file (CSV, TSV, JSONL, Parquet), or a folder of splits.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run directory [default: runs/<name of the data>].")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished run.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was killed.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file of settings, such as another run's run.toml.")
    ] = None,
    checkpoint_every: Annotated[
        float, typer.Option("--checkpoint-every", help="Seconds between states that --resume goes on from.")
    ] = 30.0,
    only_baselines: Annotated[
        bool, typer.Option("--only-baselines", help="Measure the cheap models only, in seconds; leaves nothing.")
    ] = False,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Train a classifier and leave a run directory: weights, figures, curves, a report."""
    from lasttoken.classifier.run_dir import RunDir

    layers = read_config(config) if config else {}
    recorded = layers.pop("data", None)
    data = data or (Path(recorded) if recorded else None)
    if data is None and not resume:
        raise SettingsError("there is no data; name a file or a folder of splits, such as lasttoken train messages.csv")
    out = out or (Path("runs") / data.resolve().name.strip(".").split(".")[0] if data else None)
    earlier = _recorded_settings(RunDir(out)) if resume and out and (out / "run.toml").is_file() else {}
    flags = given(flags)
    recipe = flags.get("recipe") or layers.get("recipe") or earlier.get("recipe") or "default"
    settings = resolve(recipe, earlier, layers, flags)
    reporter = terminal(quiet)
    if only_baselines:
        _only_baselines(data, settings, as_json, reporter)
        return
    from lasttoken.core.process import tune_cpu
    from lasttoken.runs.train import TrainingRequest, train_run

    tune_cpu()
    run = train_run(
        TrainingRequest(
            data=data,
            settings=settings,
            out=out,
            resume=resume,
            overwrite=overwrite,
            offline=offline,
            checkpoint_every_s=checkpoint_every,
            reporter=reporter,
        )
    )
    if as_json:
        print_json({**run.metrics, "run": str(run.out)})
    else:
        print_metrics(run.metrics, run.out, reporter)


def _recorded_settings(run_dir: RunDir) -> dict[str, Any]:
    """The settings in run.toml.

    Raises:
        RunError: not readable, or a setting or value that this version does not know.
    """
    from lasttoken.classifier.run_dir import read_settings

    found = read_settings(run_dir)
    try:
        resolve(found.get("recipe", "default"), found)
    except SettingsError as error:
        raise RunError(f"{run_dir.path / 'run.toml'} was changed, or written by another version: {error}") from error
    return found


def _only_baselines(data: Path | None, settings: Settings, as_json: bool, reporter: Reporter) -> None:
    from lasttoken.audit.collecting import audit_splits
    from lasttoken.data.gather import gather_splits
    from lasttoken.data.label_tables import label_names
    from lasttoken.evaluation.baselines import metrics_of
    from lasttoken.evaluation.task import task_of

    if data is None:
        raise SettingsError("--only-baselines needs data; name a file or a folder of splits")
    splits = gather_splits(data, settings, reporter.say)
    for finding in audit_splits(splits.named()).findings():
        reporter.say(finding)
    found = task_of(label_names(splits.train), splits.train.separator).baselines(splits, settings.seed)
    for baseline in found.values():
        if baseline.note:
            reporter.say(baseline.note)
    metrics: dict[str, Any] = {"splits": {}, "baselines": metrics_of(found)}
    print_json(metrics) if as_json else print_metrics(metrics, None, reporter)


@with_settings("split")
def split(
    data: Annotated[Path, typer.Argument(help="A labelled file.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for train.csv, validation.csv and test.csv.")] = Path(
        "splits"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files that are there.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file of settings.")] = None,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Balance and split a labelled file into train, validation and test."""
    from lasttoken.data.label_tables import label_counts

    layers = read_config(config) if config else {}
    layers.pop("data", None)
    flags = given(flags)
    settings = resolve(flags.get("recipe") or layers.get("recipe") or "default", layers, flags)
    reporter = terminal(quiet)
    splits = _write_split(data, out, overwrite, settings, reporter)
    counts = {name: label_counts(examples) for name, examples in splits.named().items()}
    if as_json:
        print_json(
            {"out": str(out), "rows": {name: sum(found.values()) for name, found in counts.items()}, "labels": counts}
        )
        return
    for name, found in counts.items():
        print_line(f"{name}\t{sum(found.values())}\t" + "\t".join(f"{label} {n}" for label, n in found.items()))


def _write_split(data: Path, out: Path, overwrite: bool, settings: Settings, reporter: Reporter) -> Splits:
    from lasttoken.audit.collecting import audit_splits
    from lasttoken.data.folders import write_splits
    from lasttoken.data.gather import gather_splits
    from lasttoken.data.splits import SPLIT_NAMES

    if out.is_file():
        raise UserError(f"--out {out} is a file; give a folder")
    if target := dangling_link(out):
        raise UserError(f"--out {out} is a link to {target}, which is not there; make that folder first")
    with exclusive(out):
        there = [name for name in SPLIT_NAMES if (out / f"{name}.csv").exists()]
        if there and not overwrite:
            raise UserError(f"{out} holds {there[0]}.csv already; pass --overwrite to replace it, or another --out")
        splits = gather_splits(data, settings, reporter.say)
        for finding in audit_splits(splits.named()).findings():
            reporter.say(finding)
        write_splits(splits, out, book=settings.handling.numbered_labels)
    return splits


def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Data sets and backbones; without one: list them.")] = None,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch data sets and pretrained weights into the cache, checked; prints where they are."""
    from lasttoken.backbone.catalog import BACKBONES
    from lasttoken.backbone.hub import fetch_backbone
    from lasttoken.backbone.pretrained import locate_backbone
    from lasttoken.data.catalog import DATASETS
    from lasttoken.data.datasets import fetch_dataset

    if not names:
        known = {name: entry.description for entries in (DATASETS, BACKBONES) for name, entry in entries.items()}
        print_json(known) if as_json else print_line("\n".join(f"{name}\t{text}" for name, text in known.items()))
        return
    for name in names:
        if name not in DATASETS and name not in BACKBONES and "/" not in name:
            names_known = [*DATASETS, *BACKBONES]
            raise SettingsError(
                f"there is no {name!r} to fetch; use {one_of(names_known)}, or a hub id{nearest(name, names_known)}"
            )
    reporter = terminal(quiet)
    found = {}
    for name in names:
        if name in DATASETS:
            found[name] = _with_bar(
                reporter, name, lambda progress, name=name: fetch_dataset(name, offline=offline, progress=progress)
            )
        elif name == "pocket":
            found[name] = locate_backbone(name)
        else:
            found[name] = fetch_backbone(name, offline=offline)
    print_json({name: str(path) for name, path in found.items()}) if as_json else print_line(
        "\n".join(map(str, found.values()))
    )


def _with_bar(reporter: Reporter, name: str, work: Any) -> Path:
    with reporter.bar(f"fetching {name}", 1_000_000) as advance:
        seen = 0

        def progress(done: int, total: int | None) -> None:
            nonlocal seen
            scaled = int(done / total * 1_000_000) if total else seen
            advance(scaled - seen, f"{done:,} bytes")
            seen = scaled

        path: Path = work(progress)
        return path


def demo(
    out: Annotated[Path, typer.Option("--out", help="Run directory.")] = DEMO_OUT,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help=f"Replace a finished run elsewhere than in {DEMO_OUT}.")
    ] = False,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train on the bundled backbone and the bundled messages (illustrative), classify two texts, write a report."""
    from lasttoken.core.process import tune_cpu
    from lasttoken.runs.train import TrainingRequest, train_run

    tune_cpu()
    reporter = terminal(quiet)
    with resources.as_file(resources.files("lasttoken") / "demo" / "messages.csv") as messages:
        run = train_run(
            TrainingRequest(
                data=messages,
                settings=resolve("default"),
                out=out,
                overwrite=overwrite or out == DEMO_OUT,
                offline=offline,
                reporter=reporter,
            )
        )
    if as_json:
        print_json({**run.metrics, "run": str(run.out)})
        return
    print_metrics(run.metrics, run.out, reporter)
    for text in ("Your parcel is held: pay the £2 fee at parcel.example.net", "Running late, order me a coffee?"):
        prediction = run.predictor.predict([text])[0]
        print_line(f"{prediction.label}\t{prediction.score:.3f}\t{text}")
    reporter.say(
        "the demo's messages were written for it, so its figures are illustrative; the SMS collection is the "
        f"real test. The report is {out / 'report.html'}. Next:\n"
        f"  {_program()} predict {out} 'your text'\n"
        f"  {_program()} serve {out}\n"
        f"  {_program()} fetch sms-spam"
    )


def _program() -> str:
    """The program as it can be called from here: by its name where the shell finds it, else by its path."""
    called, on_path = Path(sys.argv[0]), shutil.which("lasttoken")
    if not called.is_file() or (on_path and called.samefile(on_path)):
        return "lasttoken"
    with contextlib.suppress(ValueError):
        return shlex.quote(str(called.absolute().relative_to(Path.cwd())))
    return shlex.quote(str(called))
