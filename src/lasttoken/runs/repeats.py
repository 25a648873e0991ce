"""Repeated trainings: how much metrics vary over seeds and folds, and whether more train rows would help.

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

from lasttoken.core.config import Settings
from lasttoken.core.metric_registry import metrics_at
from lasttoken.evaluation.baselines import LabelledTexts, run_baselines
from lasttoken.evaluation.intervals import Difference, paired_difference, share_right
from lasttoken.evaluation.tasks.task import SplitMetrics
from lasttoken.evaluation.verdict import signed_points
from lasttoken.training.repeater import Repeater, Rows

SIZES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)  # of train; the run itself is the last point of the curve
SMALL_GAIN = 0.01  # accuracy gained by twice as many rows, up to which labelling them is hardly worth it
NOT_TESTED = -1  # in place of a label_id
FOLD_BASELINES = ("tfidf-logreg", "char-ngrams")

Done = Callable[[int], None]  # receives the number of finished trainings
Stop = Callable[[], bool]


def run_seeds(
    repeater: Repeater, settings: Settings, headline: str, first: SplitMetrics, done: Done, stop: Stop
) -> dict[str, Any]:
    """`settings.seeds` trainings, the first of which is the run's own, with these metrics on the headline split."""
    runs = [{"name": f"seed {settings.seed}", **_values(first)}]
    task, truth = repeater.classifier.config.task, repeater.truth[repeater.rows[headline]]
    with repeater.borrowed():
        for seed in range(settings.seed + 1, settings.seed + settings.seeds):
            fitted = repeater.fit(repeater.rows, replace(settings, seed=seed), (headline,), stop)
            metrics = task.metrics(truth, log_probs=fitted[headline], intervals=True)
            runs.append({"name": f"seed {seed}", **_values(metrics)})
            done(1)
    return {"kind": "seeds", "split": headline, **_spread(runs)}


def run_folds(repeater: Repeater, settings: Settings, done: Done, stop: Stop) -> dict[str, Any]:
    """`settings.folds` trainings in which each row is tested once, and the baselines on the same folds."""
    runs, predicted = [], np.full(len(repeater.truth), NOT_TESTED, dtype=np.int64)
    cheap = {name: predicted.copy() for name in FOLD_BASELINES}
    task = repeater.classifier.config.task
    with repeater.borrowed():
        for fold, rows in enumerate(repeater.folds(settings.folds, settings.validation_fraction, settings.seed), 1):
            fitted = repeater.fit(rows, settings, ("test",), stop)
            metrics = task.metrics(repeater.truth[rows["test"]], log_probs=fitted["test"], intervals=True)
            predicted[rows["test"]] = fitted["test"].argmax(1)
            run = {"name": f"fold {fold}", **_values(metrics)}
            parts = {name: _labelled(repeater, part) for name, part in rows.items()}
            baselines = run_baselines(
                task, parts.pop("train"), parts, settings.seed, FOLD_BASELINES, intervals=False, fitted=repeater.fitted
            )
            for name, baseline in baselines.items():
                if "test" in baseline.predicted:
                    cheap[name][rows["test"]] = baseline.predicted["test"]
                    run[f"{name} accuracy"] = baseline.metrics["test"].accuracy
            runs.append(run)
            done(1)
    return {"kind": "folds", **_spread(runs), **_all_rows(repeater.truth, predicted, cheap, runs)}


def _labelled(repeater: Repeater, rows: Rows) -> LabelledTexts:
    return LabelledTexts([repeater.examples.texts[row] for row in rows], repeater.truth[rows])


def _all_rows(
    truth: Rows, predicted: Rows, cheap: Mapping[str, Rows], runs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Accuracy of out-of-fold predictions, and their difference to those of the baselines.

    Rows of labels with too few rows for all folds are never tested, and are left out.
    """
    tested = predicted != NOT_TESTED
    correct = predicted[tested] == truth[tested]
    against = {
        name: paired_difference(correct, theirs[tested] == truth[tested]).to_json()
        for name, theirs in cheap.items()
        if all(f"{name} accuracy" in run for run in runs)
    }
    n_not_tested = int((~tested).sum())
    left_out = {"n_not_tested": n_not_tested} if n_not_tested else {}
    return {"all_rows": share_right(correct), "against": against, **left_out}


def _values(metrics: SplitMetrics) -> dict[str, float]:
    values = {metric.name: metrics.value(metric.name) for metric in metrics_at("repeats")}
    return {name: float(value) for name, value in values.items() if value is not None}


def _spread(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The runs, their mean, and their standard deviation (of a sample, divided by k - 1)."""
    names = [name for name in runs[0] if name != "name" and all(name in run for run in runs)]
    values = {name: np.array([run[name] for run in runs]) for name in names}
    return {
        "runs": runs,
        "mean": {name: float(column.mean()) for name, column in values.items()},
        "sd": {name: float(column.std(ddof=1)) if len(runs) > 1 else 0.0 for name, column in values.items()},
    }


def nested_parts(label_ids: NDArray[np.int64], sizes: Sequence[float], seed: int) -> list[Rows]:
    """Nested subsets of N rows of increasing size, stratified by label, with at least one row of each label.

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
    repeater: Repeater,
    settings: Settings,
    headline: str,
    baseline: str,
    whole: tuple[NDArray[np.bool_], NDArray[np.bool_] | None],
    done: Done,
    stop: Stop,
) -> dict[str, Any]:
    """Accuracy of the classifier and of a baseline on the headline split, trained on parts of train and on all of it.

    `whole`: which rows [N] of that split the run's own classifier and the baseline predict correctly; None: the
    baseline was not fitted.
    """
    rows, train_ids = repeater.rows, repeater.truth[repeater.rows["train"]]
    task, truth = repeater.classifier.config.task, repeater.truth[rows[headline]]
    right = []  # by size: which rows the classifier and the baseline predict correctly

    parts = [rows["train"][positions] for positions in nested_parts(train_ids, SIZES, settings.seed)]
    with repeater.borrowed():
        for train in parts:
            fitted = repeater.fit({**rows, "train": train}, settings, (headline,), stop)
            held_out = {name: _labelled(repeater, rows[name]) for name in {"validation", headline}}
            cheap = run_baselines(
                task,
                _labelled(repeater, train),
                held_out,
                settings.seed,
                (baseline,),
                intervals=False,
                fitted=repeater.fitted,
            )[baseline]
            theirs = cheap.predicted[headline] == truth if headline in cheap.predicted else None
            right.append((fitted[headline].argmax(1) == truth, theirs))
            done(1)
    right.append(whole)
    sizes = [*map(len, parts), len(rows["train"])]
    points = [_point(n_train, *correct) for n_train, correct in zip(sizes, right, strict=True)]
    sentence = _would_help(sizes[-2:], paired_difference(right[-1][0], right[-2][0]))
    return {"points": points, "baseline": baseline, "split": headline, "sentence": sentence}


def _point(n_train: int, ours: NDArray[np.bool_], theirs: NDArray[np.bool_] | None) -> dict[str, Any]:
    point = {"n_train": n_train, **share_right(ours)}
    if theirs is not None:
        accuracy = share_right(theirs)
        point |= {"baseline_accuracy": accuracy["accuracy"], "baseline_ci95": accuracy["accuracy_ci95"]}
    return point


def _would_help(sizes: Sequence[int], difference: Difference) -> str:
    low, high = map(signed_points, difference.ci95)
    gain = f"From {sizes[0]:,} to {sizes[1]:,} train rows accuracy changed by {signed_points(difference.value)} points"
    if difference.ci95[0] > 0:
        return f"{gain} ({low} to {high}): more labelled rows would probably help."
    if difference.ci95[1] <= SMALL_GAIN:
        return f"{gain} ({low} to {high}): twice as many labelled rows would probably not help much."
    return f"{gain} ({low} to {high}): inconclusive, because the interval includes both no gain and a useful one."
