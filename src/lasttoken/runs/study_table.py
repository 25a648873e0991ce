"""The table of a study: each row's metrics over the seeds, and its paired difference to the first row.

    row           accuracy mean, sd, interval     difference to the first row     trained     seconds
    base          95.2 ± 0.4 (92.9 to 97.1)       –                               7,090,946   12.0
    two blocks    96.0 ± 0.3 (93.9 to 97.7)       +0.8 (-0.2 to 1.8)              14,178,818  25.1

With several seeds the intervals are those of evaluation/seeds.py, over other seeds and other rows; with one seed they
are those of a run, over other rows alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.metric_registry import METRICS
from lasttoken.data.label_tables import label_names, truth_of
from lasttoken.data.splitting.near_duplicates import find_duplicates
from lasttoken.data.splitting.splits import Splits
from lasttoken.evaluation.baselines import fit_baselines, metrics_of
from lasttoken.evaluation.intervals import mean_interval
from lasttoken.evaluation.seeds import difference_over_seeds, mean_over_seeds
from lasttoken.evaluation.tasks.choice import task_of
from lasttoken.evaluation.tasks.task import Task, Truth
from lasttoken.evaluation.verdict import signed_points
from lasttoken.runs.facts import versions
from lasttoken.runs.study_dir import TrainingResult, training_key
from lasttoken.runs.study_file import Study

Results = Mapping[str, TrainingResult]


def study_table(study: Study, splits: Splits, results: Results, reasons: Mapping[str, str]) -> dict[str, Any]:
    """The content of study.json: rows in the order of the study. `reasons`: why a row has no results, by its name."""
    task = task_of(tuple(label_names(splits.train)), splits.train.separator)
    examples = splits.named()[splits.headline]
    compare = _Comparison(task, truth_of(examples, list(task.labels)), find_duplicates(examples.texts).near)
    rows: list[dict[str, Any]] = []
    first_of: dict[str, str] = {}  # the first row with the same trainings
    first: list[TrainingResult] | None = None
    for row in study.rows:
        key = training_key(row.settings, study.seeds[0])
        same_as = first_of.setdefault(key, row.name)
        found = [results.get(training_key(row.settings, seed)) for seed in study.seeds]
        trained = [result for result in found if result is not None]
        line: dict[str, Any] = {"row": row.name, "settings": dict(row.given)}
        line |= {"same_as": same_as} if same_as != row.name else {}
        reason = reasons.get(row.name) or reasons.get(same_as)
        if reason or len(trained) < len(study.seeds):
            rows.append({**line, "without_results": reason or "not trained"})
            continue
        line |= _row(study, trained)
        if row.name == study.rows[0].name:
            first = trained
        elif first is not None:
            same = training_key(study.rows[0].settings, study.seeds[0]) == key
            line |= {"difference": None if same else compare.difference(row.name, study.rows[0].name, trained, first)}
        rows.append(line)
    return {
        "study": study.name,
        "data": str(study.data),
        "split": splits.headline,
        "n": len(examples),
        "examples": {name: len(each) for name, each in splits.named().items()},
        "seeds": list(study.seeds),
        "headline": task.headline,
        "points": task.points,
        "multi_label": task.multi_label,
        "rows": rows,
        "baselines": metrics_of(fit_baselines(task, splits, study.seeds[0])),
        "versions": versions(),
    }


def _row(study: Study, trained: Sequence[TrainingResult]) -> dict[str, Any]:
    """The metrics of a row over its seeds, and what its trainings took."""
    names = [name for name in METRICS if all(_has(result.metrics, name) for result in trained)]
    losses = [float(result.validation["loss"]) for result in trained]
    per_seed = [
        {
            "seed": seed,
            **{name: result.metrics[name] for name in names},
            "validation_loss": loss,
            "seconds": round(result.seconds, 3),
            "kept_step": result.kept_step,
            "stopped": result.stopped,
        }
        for seed, result, loss in zip(study.seeds, trained, losses, strict=True)
    ]
    chosen = trained[0].choice
    return {
        "metrics": {name: _over_seeds(name, trained) for name in names},
        "validation_loss": mean_over_seeds(losses, [None] * len(losses)).to_json(),
        "trained_parameters": trained[0].trained,
        "parameters": trained[0].total,
        "seconds": round(float(np.mean([result.seconds for result in trained])), 3),
        "trunk_s": round(sum(result.trunk_s for result in trained), 3),
        **({"chosen": chosen["sentence"]} if chosen else {}),
        "seeds": per_seed,
    }


def _has(metrics: Mapping[str, Any], name: str) -> bool:
    return isinstance(metrics.get(name), int | float)


def _over_seeds(name: str, trained: Sequence[TrainingResult]) -> dict[str, Any]:
    intervals = [result.metrics.get(f"{name}_ci95") for result in trained]
    bounds = [(float(each[0]), float(each[1])) if each else None for each in intervals]
    summary = mean_over_seeds([result.metrics[name] for result in trained], bounds).to_json()
    if summary["ci95"]:
        least, most = METRICS[name].range
        summary["ci95"] = [max(summary["ci95"][0], least), min(summary["ci95"][1], most)]
    return summary


class _Comparison:
    """Paired differences on the rows of the headline split."""

    def __init__(self, task: Task, truth: Truth, groups: NDArray[np.intp]) -> None:
        self.task, self.truth, self.groups = task, truth, groups

    def difference(
        self, name: str, first_name: str, ours: Sequence[TrainingResult], first: Sequence[TrainingResult]
    ) -> dict[str, Any]:
        """Of a row to the first one, in the headline metric and in the loss."""
        alone = np.zeros(len(self.truth), dtype=np.int64)
        if len(ours) == 1:
            of_headline = self.task.difference(self.truth, ours[0].predicted, first[0].predicted, self.groups)
            value, ci95 = of_headline.value, of_headline.ci95
            losses = ours[0].losses - first[0].losses
            loss, loss_ci95 = float(losses.mean()), mean_interval(losses, alone, 0)
        else:
            is_share = not self.task.multi_label
            value, ci95 = difference_over_seeds(
                _stacked(ours, "values"), _stacked(first, "values"), self.groups, is_share
            )
            loss, loss_ci95 = difference_over_seeds(
                _stacked(ours, "losses"), _stacked(first, "losses"), self.groups, False
            )
        return {
            "to": first_name,
            "measure": self.task.headline,
            "value": value,
            "ci95": list(ci95),
            "loss": loss,
            "loss_ci95": list(loss_ci95),
            "sentence": difference_in_words(name, first_name, value, ci95, self.task.points),
        }


def _stacked(trained: Sequence[TrainingResult], name: str) -> NDArray[np.float64]:
    return np.stack([getattr(result, name) for result in trained])


def difference_in_words(name: str, first: str, value: float, ci95: Sequence[float], points: str) -> str:
    """A paired difference as a sentence.

    >>> difference_in_words("two blocks", "base", 0.012, (0.003, 0.021), "points")
    'two blocks is better than base by 1.2 points (0.3 to 2.1).'
    >>> difference_in_words("head", "base", 0.001, (-0.004, 0.006), "points")
    'No evidence that head and base differ: +0.1 points (−0.4 to +0.6).'
    """
    low, high = ci95
    if low > 0 or high < 0:
        side = "better" if low > 0 else "worse"
        bounds = sorted((abs(low), abs(high)))
        return (
            f"{name} is {side} than {first} by {abs(value) * 100:.1f} {points} ({bounds[0] * 100:.1f} to "
            f"{bounds[1] * 100:.1f})."
        )
    return (
        f"No evidence that {name} and {first} differ: {signed_points(value)} {points} ({signed_points(low)} to "
        f"{signed_points(high)})."
    )


def study_csv(table: Mapping[str, Any]) -> str:
    """The table with one line for each row of the study."""
    metrics = [name for name in METRICS if any(name in row.get("metrics", {}) for row in table["rows"])]
    lines = [_csv_line(row, metrics) for row in table["rows"]]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(name for line in lines for name in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _csv_line(row: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    settings = " ".join(f"{name}={value}" for name, value in row["settings"].items())
    line = {"row": row["row"], "settings": settings, "same_as": row.get("same_as", "")}
    line["without_results"] = row.get("without_results", "")
    values = row.get("metrics", {})
    for name in metrics:
        summary = values.get(name) or {}
        low, high = summary.get("ci95") or ("", "")
        line |= {name: summary.get("mean", ""), f"{name}_sd": summary.get("sd", "")}
        line |= {f"{name}_low": low, f"{name}_high": high}
    validation, difference = row.get("validation_loss") or {}, row.get("difference") or {}
    line |= {"validation_loss": validation.get("mean", ""), "validation_loss_sd": validation.get("sd", "")}
    line |= {name: row.get(name, "") for name in ("trained_parameters", "parameters", "seconds", "trunk_s")}
    for name, key in (("difference", "value"), ("loss_difference", "loss")):
        low, high = difference.get("ci95" if key == "value" else "loss_ci95") or ("", "")
        line |= {name: difference.get(key, ""), f"{name}_low": low, f"{name}_high": high}
    return line
