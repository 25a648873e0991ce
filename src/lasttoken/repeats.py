"""How much a figure varies, and whether more labels would help: the same training by other seeds, folds and sizes.

seeds            the same rows, other heads and orders        one trunk + k tails
folds            every row is tested once                     one trunk + k tails
learning curve   growing parts of train, the same test rows   one trunk + k shorter tails
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.config import Settings
from lasttoken.data.splits import labels_of
from lasttoken.evaluation.baselines import run_baselines
from lasttoken.evaluation.intervals import paired_difference, wilson_interval
from lasttoken.evaluation.metrics import Metrics, compute_metrics
from lasttoken.training.repeat import Repeater, Rows

SIZES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of train
FIGURES = ("accuracy", "macro_f1", "balanced_accuracy", "loss", "ece")
FOLD_BASELINES = ("tfidf-logreg", "char-ngrams")

Done = Callable[[int], None]  # told of trainings done
Stop = Callable[[], bool]


def run_seeds(
    repeater: Repeater, settings: Settings, headline: str, labels: Sequence[str], first: Metrics, done: Done, stop: Stop
) -> dict[str, Any]:
    """`settings.seeds` trainings, the first of which is the run's own, with these metrics on the headline split."""
    runs = [{"name": f"seed {settings.seed}", **_figures(first)}]
    truth = repeater.label_ids[repeater.rows[headline]]
    with repeater.borrowed():
        for seed in range(settings.seed + 1, settings.seed + settings.seeds):
            fitted = repeater.fit(repeater.rows, replace(settings, seed=seed), (headline,), stop)
            metrics = compute_metrics(truth, labels, log_probs=fitted.log_probs[headline], intervals=True)
            runs.append({"name": f"seed {seed}", **_figures(metrics)})
            done(1)
    return {"kind": "seeds", "split": headline, **_spread(runs)}


def run_folds(repeater: Repeater, settings: Settings, labels: Sequence[str], done: Done, stop: Stop) -> dict[str, Any]:
    """`settings.folds` trainings, in which each row is tested once; and the cheap models on the same folds."""
    runs, predicted = [], np.empty(len(repeater.label_ids), dtype=np.int64)
    cheap = {name: predicted.copy() for name in FOLD_BASELINES}
    texts, names = repeater.examples.texts, labels_of(repeater.examples)
    with repeater.borrowed():
        for fold, rows in enumerate(repeater.folds(settings.folds, settings.validation_fraction, settings.seed), 1):
            fitted = repeater.fit(rows, settings, ("test",), stop)
            metrics = compute_metrics(
                repeater.label_ids[rows["test"]], labels, log_probs=fitted.log_probs["test"], intervals=True
            )
            predicted[rows["test"]] = fitted.log_probs["test"].argmax(1)
            run = {"name": f"fold {fold}", **_figures(metrics)}
            parts = {name: ([texts[row] for row in at], [names[row] for row in at]) for name, at in rows.items()}
            found = run_baselines(*parts.pop("train"), parts, labels, settings.seed, FOLD_BASELINES, intervals=False)
            for name, baseline in found.items():
                if "test" in baseline.predicted:
                    cheap[name][rows["test"]] = baseline.predicted["test"]
                    run[f"{name} accuracy"] = baseline.metrics["test"].accuracy
            runs.append(run)
            done(1)
    return {"kind": "folds", **_spread(runs), **_all_rows(repeater.label_ids, predicted, cheap, runs)}


def _all_rows(
    truth: Rows, predicted: Rows, cheap: Mapping[str, Rows], runs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Each row's answer by the classifier that had not seen it: accuracy, and the difference to the cheap models."""
    correct = predicted == truth
    n_correct = int(correct.sum())
    against = {}
    for name, theirs in cheap.items():
        if all(f"{name} accuracy" in run for run in runs):
            found = paired_difference(correct, theirs == truth)
            against[name] = {"difference": found.value, "difference_ci95": list(found.ci95), "p_value": found.p_value}
    interval = list(wilson_interval(n_correct, len(truth)))
    return {
        "all_rows": {"n": len(truth), "accuracy": n_correct / len(truth), "accuracy_ci95": interval},
        "against": against,
    }


def _figures(metrics: Metrics) -> dict[str, float]:
    found = {name: getattr(metrics, name) for name in FIGURES}
    return {name: float(value) for name, value in found.items() if value is not None}


def _spread(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The runs, their mean, and their standard deviation (of a sample, divided by k - 1)."""
    names = [name for name in runs[0] if name != "name" and all(name in run for run in runs)]
    values = {name: np.array([run[name] for run in runs]) for name in names}
    return {
        "runs": runs,
        "mean": {name: float(found.mean()) for name, found in values.items()},
        "sd": {name: float(found.std(ddof=1)) if len(runs) > 1 else 0.0 for name, found in values.items()},
    }


def nested_parts(label_ids: NDArray[np.int64], sizes: Sequence[float], seed: int) -> list[Rows]:
    """Growing parts of N rows, each inside the next, with every label's share in each; one row of a label at least.

    >>> [len(part) for part in nested_parts(np.repeat([0, 1], 8), (0.25, 0.5, 1.0), 1)]
    [4, 8, 16]
    """
    shuffled = np.random.default_rng(seed).permutation(len(label_ids))
    of_label = [shuffled[label_ids[shuffled] == label_id] for label_id in np.unique(label_ids)]
    return [
        np.sort(np.concatenate([rows[: max(1, round(size * len(rows)))] for rows in of_label])).astype(np.int64)
        for size in sizes
    ]


def run_learning_curve(
    repeater: Repeater, settings: Settings, headline: str, labels: Sequence[str], baseline: str, done: Done, stop: Stop
) -> dict[str, Any]:
    """Accuracy of the classifier and of a baseline on the headline split, trained on `SIZES` of train."""
    rows = repeater.rows
    texts, names = repeater.examples.texts, labels_of(repeater.examples)
    truth, points, correct = repeater.label_ids[rows[headline]], [], []

    def part(at: Rows) -> tuple[list[str], list[str]]:
        return [texts[row] for row in at], [names[row] for row in at]

    with repeater.borrowed():
        for part_rows in nested_parts(repeater.label_ids[rows["train"]], SIZES, settings.seed):
            train = rows["train"][part_rows]
            fitted = repeater.fit({**rows, "train": train}, settings, (headline,), stop)
            correct.append(fitted.log_probs[headline].argmax(1) == truth)
            held_out = {name: part(rows[name]) for name in {"validation", headline}}
            cheap = run_baselines(*part(train), held_out, labels, settings.seed, (baseline,), intervals=False)[baseline]
            theirs = cheap.predicted[headline] == truth if headline in cheap.predicted else None
            points.append({"n_train": len(train), **_point("", correct[-1]), **_point("baseline_", theirs)})
            done(1)
    return {"points": points, "baseline": baseline, "split": headline, "sentence": _would_help(points, correct)}


def _point(prefix: str, correct: NDArray[np.bool_] | None) -> dict[str, Any]:
    if correct is None:
        return {}
    n_correct = int(correct.sum())
    interval = list(wilson_interval(n_correct, len(correct)))
    return {f"{prefix}accuracy": n_correct / len(correct), f"{prefix}{'' if prefix else 'accuracy_'}ci95": interval}


def _would_help(points: Sequence[Mapping[str, Any]], correct: Sequence[NDArray[np.bool_]]) -> str:
    found = paired_difference(correct[-1], correct[-2])
    low, high = (f"{bound * 100:+.1f}".replace("-", "−") for bound in found.ci95)
    gain = f"{found.value * 100:+.1f}".replace("-", "−")
    doubled = (
        f"From {points[-2]['n_train']:,} to {points[-1]['n_train']:,} train rows accuracy changed by {gain} points"
    )
    if found.ci95[0] > 0:
        return f"{doubled} ({low} to {high}): more labels would probably help."
    return f"{doubled} ({low} to {high}): no evidence that twice as many labels would help much."
