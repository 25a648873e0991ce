"""The command evaluate: metrics of a run on a labelled file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lasttoken.cli.flags import (
    Cost,
    Device,
    Json,
    LabelColumn,
    Precision,
    Quiet,
    RunDirectory,
    TextColumns,
    Threshold,
    column_spec,
    read_options,
    with_settings,
)
from lasttoken.cli.show import print_json, print_line, terminal
from lasttoken.core.errors import SettingsError
from lasttoken.core.metric_registry import METRICS, with_interval

if TYPE_CHECKING:
    from lasttoken.runs.evaluate import FirstBatches


@with_settings("evaluate")
def evaluate(
    run: RunDirectory,
    data: Annotated[Path, typer.Argument(help="A labelled file.")],
    text: TextColumns = None,
    label: LabelColumn = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threshold: Threshold = None,
    cost: Cost = None,
    n_batches: Annotated[
        int | None, typer.Option("--batches", help="Measure the first batches only, like num_batches in chapter 6.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Rows per batch, with --batches [default: 8].")
    ] = None,
    shuffle_seed: Annotated[
        int | None,
        typer.Option(
            "--shuffle-seed", help="With --batches: shuffle with this seed first, like the chapter's train loader."
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Measure a classifier on a labelled file."""
    from lasttoken.classifier.predict import Predictor
    from lasttoken.core.process import tune_cpu
    from lasttoken.runs.evaluate import evaluate_run

    only = _first_batches(n_batches, batch_size, shuffle_seed)
    tune_cpu()
    predictor = Predictor.load(run, device, precision)
    predictor.answer_by(threshold, cost)
    metrics = evaluate_run(
        run,
        predictor,
        data,
        column_spec(text, label),
        options=read_options(flags),
        only=only,
        reporter=terminal(quiet),
    )
    if as_json:
        print_json(metrics)
    else:
        _print(metrics)


def _first_batches(n_batches: int | None, batch_size: int | None, shuffle_seed: int | None) -> FirstBatches | None:
    """The batches to measure; None: all rows.

    Raises:
        SettingsError: an invalid number, or a flag without --batches.
    """
    from lasttoken.runs.evaluate import FirstBatches

    for flag, value in {"--batches": n_batches, "--batch-size": batch_size}.items():
        if value is not None and value < 1:
            raise SettingsError(f"{flag} is {value}; it must be at least 1")
    if shuffle_seed is not None and not 0 <= shuffle_seed < 2**63:
        raise SettingsError(f"--shuffle-seed is {shuffle_seed}; it must be at least 0 and below 2^63")
    if n_batches is None:
        for flag, value in {"--batch-size": batch_size, "--shuffle-seed": shuffle_seed}.items():
            if value is not None:
                raise SettingsError(f"{flag} has an effect only with --batches; add it, or leave {flag} out")
        return None
    return FirstBatches(n_batches, batch_size or FirstBatches.size, shuffle_seed)


def _print(metrics: Mapping[str, Any]) -> None:
    print_line(f"accuracy {METRICS['accuracy'].formatted(metrics)} on {metrics['n']:,} rows")
    for metric in METRICS.values():
        if metrics.get(metric.name) is not None and metric.name not in ("accuracy", "subset_accuracy"):
            print_line(f"{metric.title} {metric.formatted(metrics)}")
    for label, scores in metrics["per_label"].items():
        cells = (f"{key} {with_interval(scores, key)}" for key in ("precision", "recall", "f1"))
        print_line("\t".join([label, *cells, f"n {scores['n']}"]))
