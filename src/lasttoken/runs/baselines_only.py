"""The baselines of a data set without any training: what a simple model reaches, in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lasttoken.core.config import Settings
from lasttoken.core.progress import Reporter
from lasttoken.data.files import Examples
from lasttoken.data.label_tables import label_names
from lasttoken.evaluation.baselines import fit_baselines, metrics_of
from lasttoken.evaluation.tasks.choice import task_of
from lasttoken.runs.split import gather_and_audit


def measure_baselines(data: Path | Examples, settings: Settings, reporter: Reporter | None = None) -> dict[str, Any]:
    """Metrics of the baselines on the splits of the data, as metrics.json holds them; nothing is written.

    Raises:
        DataError: data that cannot be read or split.
    """
    reporter = reporter or Reporter()
    splits = gather_and_audit(data, settings, reporter)
    task = task_of(label_names(splits.train), splits.train.separator)
    baselines = fit_baselines(task, splits, settings.seed)
    for baseline in baselines.values():
        if baseline.note:
            reporter.say(baseline.note)
    return {"splits": {}, "baselines": metrics_of(baselines)}
