"""The training of a head as a logistic regression: every C of a path is scored on held-out rows, the best is kept.

    features of train, validation ─► parts (held_out.py) ─► LinearPath for each ─► score of each C ─► head

It stands beside `Trainer` and gives the same kind of outcome; a line of its history is a C in place of a step. Where
the rows were held out in folds, the head is solved again on all of them, and the outcome has the logits of each row
from the fold without it: temperature and metrics of validation are computed from these.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.encoding import run_by_length
from lasttoken.core.config import Settings
from lasttoken.core.device import Device
from lasttoken.core.metric_registry import metrics_at
from lasttoken.evaluation.tasks.task import Task, Truth
from lasttoken.training.balance import epoch_rows, label_weights, prior_shift
from lasttoken.training.features import FeatureSource
from lasttoken.training.held_out import Part, Score, best_place, parts_of, score_of
from lasttoken.training.linear import PRECISE, ROUGH, Design, Head, LinearPath, rows_of
from lasttoken.training.loop import (
    HeldOut,
    Hooks,
    Line,
    TrainingInputs,
    TrainingOutcome,
)
from lasttoken.training.split_features import TAIL_BUDGETS, SplitFeatures

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)  # C for standardized features
LARGE = 100_000_000  # N · F · K from which a problem is solved on several threads
HUGE = 500_000_000  # from which a head is solved as roughly as in a comparison: so many rows leave little to regularize
PATIENCE = 2  # values of C that may be worse than the best before the path ends

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Problem:
    """Rows of train and validation as a logistic regression sees them."""

    task: Task
    features: Floats  # [N, F], train first
    design: Design
    truth: Truth  # [N], or [N, K]
    parts: list[Part]
    weights: list[Floats]  # of the fitted rows of each part
    all_weights: Floats  # [N], where all rows are fitted
    shift: Floats | float  # what `balance` adds to logits, see balance.py
    metric: str

    @property
    def folds(self) -> bool:
        """Whether rows are held out in folds."""
        return len(self.parts) > 1

    @property
    def scored(self) -> NDArray[np.int64]:
        """The held-out rows, in the order of the parts."""
        return np.concatenate([part.scored for part in self.parts])

    def path(
        self, rows: NDArray[np.int64], weights: Floats, target: NDArray[np.floating] | None, tolerance: float
    ) -> LinearPath:
        """The logistic regression on some rows."""
        return LinearPath(
            self.design,
            rows,
            self.task.has_labels(self.truth[rows]),
            exclusive=not self.task.multi_label,
            weights=weights,
            target=target,
            tolerance=tolerance,
        )


@dataclass(frozen=True)
class Point:
    """One C, with what it gave on the held-out rows."""

    strength: float
    heads: list[Head]  # of each part
    logits: Floats  # [M, K] of the held-out rows
    score: Score


def walk(
    problem: Problem,
    strengths: Sequence[float] = STRENGTHS,
    target: NDArray[np.floating] | None = None,
    tolerance: float = PRECISE,
    hooks: Hooks | None = None,
) -> list[Point]:
    """The points of the path, from the smallest C until the loss has risen `PATIENCE` times, or a stop is asked for."""
    size = problem.features.size * len(problem.task.labels)
    with few_threads(size):
        return _walk(problem, strengths, target, ROUGH if size > HUGE else tolerance, hooks)


def _walk(
    problem: Problem,
    strengths: Sequence[float],
    target: NDArray[np.floating] | None,
    tolerance: float,
    hooks: Hooks | None,
) -> list[Point]:
    paths = [
        problem.path(part.fitted, weights, target, tolerance)
        for part, weights in zip(problem.parts, problem.weights, strict=True)
    ]
    points: list[Point] = []
    for strength in strengths:
        heads = [path.solve(strength) for path in paths]
        logits = np.concatenate(
            [
                head.logits(rows_of(problem.features, part.scored)) + problem.shift
                for head, part in zip(heads, problem.parts, strict=True)
            ]
        ).astype(np.float32)
        score = score_of(problem.task, logits, problem.truth[problem.scored], problem.metric)
        points.append(Point(strength, heads, logits, score))
        best = min(range(len(points)), key=lambda place: points[place].score.loss)
        if len(points) - 1 - best >= PATIENCE or (hooks and hooks.should_stop()):
            break
    return points


def few_threads(size: int) -> AbstractContextManager[object]:
    """A context with one thread for NumPy's matrix multiplications if the problem, N · F · K numbers, is small.

    Such a multiplication takes less time than its threads wait for one another on a busy machine.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas") if size < LARGE else nullcontext()


class LinearTraining:
    """One training of a classifier's head, where the head is all that trains."""

    def __init__(self, classifier: Classifier, inputs: TrainingInputs, hooks: Hooks | None = None) -> None:
        """Read the features of "train" and "validation"."""
        assert classifier.config.train_blocks == "head"
        self.classifier, self.splits, self.hooks = classifier, inputs.splits, hooks or Hooks()
        self.target: NDArray[np.floating] | None = None  # [K, F], see `LinearPath`; it is made from these features
        named = [inputs.splits[name] for name in ("train", "validation")]
        features = np.concatenate([head_inputs(classifier, split.source, inputs.device) for split in named])
        task, settings = classifier.config.task, inputs.settings
        self.problem = make_problem(task, features, named, settings, inputs.label_counts, inputs.may_fold)

    def run(self) -> TrainingOutcome:
        """Solve for every C, and give the classifier the head of the best one."""
        started, problem = time.monotonic(), self.problem
        points = walk(problem, target=self.target, hooks=self.hooks)
        best = best_place([point.score for point in points])  # of equal ones the first: its weights are the smallest
        head = points[best].heads[0]
        if problem.folds:
            rows = np.arange(len(problem.features), dtype=np.int64)
            head = problem.path(rows, problem.all_weights, self.target, PRECISE).solve(points[best].strength)
        set_head(self.classifier, head, self.problem.shift)
        lines = [self._line(step, point, step == best) for step, point in enumerate(points)]
        for line in lines:
            line["seconds"] = round(time.monotonic() - started, 4)  # of the whole path
        for line in lines:
            self.hooks.on_line(line)
        return TrainingOutcome(lines, best, None, self._held_out(points[best]))

    def _line(self, step: int, point: Point, is_best: bool) -> Line:
        """The line of history.jsonl for one C."""
        problem, part = self.problem, self.problem.parts[0]
        seen = np.asarray(
            point.heads[0].logits(rows_of(problem.features, part.fitted)) + problem.shift, dtype=np.float32
        )
        line: Line = {"kind": "strength", "step": step, "epoch": 0.0, "C": point.strength, "best": is_best}
        for name, logits, rows in (("train", seen, part.fitted), ("validation", point.logits, problem.scored)):
            metrics = problem.task.metrics(problem.truth[rows], log_probs=problem.task.log_probs(logits))
            place = "train history" if name == "train" else "history"
            for metric in metrics_at(place, problem.task.kind):  # type: ignore[arg-type]
                line[f"{name}_{metric.name}"] = metrics.value(metric.name)
        return line

    def _held_out(self, point: Point) -> HeldOut | None:
        """What calibration uses in place of logits for rows that the head was fitted to."""
        if not self.problem.folds:
            return None
        scored, n_train = self.problem.scored, len(self.splits["train"])
        is_validation = scored >= n_train
        return HeldOut(
            point.logits,
            self.problem.truth[scored],
            scored[is_validation] - n_train,
            point.logits[is_validation],
            tuple(self.problem.parts),
        )


@torch.no_grad()
def set_head(classifier: Classifier, head: Head, shift: Floats | float = 0.0) -> None:
    """Give a classifier this head, with `shift` added to its bias."""
    classifier.head.weight.copy_(torch.from_numpy(head.weight))
    classifier.head.bias.copy_(torch.from_numpy(np.asarray(head.bias + shift, dtype=np.float32)))


def make_problem(
    task: Task,
    features: Floats,
    splits: Sequence[SplitFeatures],
    settings: Settings,
    label_counts: NDArray[np.int64] | None,
    may_fold: bool,
    most_axes: int | None = None,
) -> Problem:
    """The regression of train and validation, whose features [N, F] are given; see `LinearTraining` and `Design`."""
    truth = np.concatenate([split.truth for split in splits])
    parts = parts_of([split.source.encoded for split in splits], truth, may_fold=may_fold, seed=settings.seed)
    of_rows = np.concatenate(
        [np.ones(len(split), np.float32) if split.weights is None else split.weights for split in splits]
    )
    if label_counts is None and settings.train_balance != "none":
        label_counts = np.bincount(np.asarray(splits[0].truth, dtype=np.int64), minlength=len(task.labels))
    return problem_of(task, features, truth, parts, settings, label_counts, of_rows, most_axes)


def problem_of(
    task: Task,
    features: Floats,
    truth: Truth,
    parts: list[Part],
    settings: Settings,
    label_counts: NDArray[np.int64] | None,
    of_rows: Floats | None = None,
    most_axes: int | None = None,
) -> Problem:
    """The regression of rows [N] that are divided into parts.

    Args:
        label_counts: rows of each label [K] in the data before `balance`; None: in these rows.
        of_rows: a weight for each row; None: all count alike.
        most_axes: see `Design`.
    """
    shift: Floats | float = 0.0
    if settings.train_balance != "none":
        if label_counts is None:
            label_counts = np.bincount(np.asarray(truth, dtype=np.int64), minlength=len(task.labels))
        shift = prior_shift(label_counts)
    fitted = [*(part.fitted for part in parts), np.arange(len(truth), dtype=np.int64)]
    weights = [balanced_weights(truth[each], task, settings) for each in fitted]
    if of_rows is not None:
        weights = [of_rows[each] * own for each, own in zip(fitted, weights, strict=True)]
    with few_threads(features.size * len(task.labels)):
        design = Design.of(features, most_axes)
    return Problem(task, features, design, truth, parts, weights[:-1], weights[-1], shift, settings.metric)


def balanced_weights(truth: Truth, task: Task, settings: Settings) -> Floats:
    """The weights [N] by which rows balance their labels: N / (K · n) of each, or how often a row is drawn."""
    if settings.train_balance == "none":
        return np.ones(len(truth), dtype=np.float32)
    ids = np.asarray(truth, dtype=np.int64)
    if settings.train_balance == "weights":
        return label_weights(ids, len(task.labels))[ids]
    drawn = epoch_rows(ids, settings.train_balance, settings.seed)
    return np.bincount(drawn, minlength=len(ids)).astype(np.float32)


@torch.no_grad()
def head_inputs(classifier: Classifier, source: FeatureSource, device: Device) -> Floats:
    """What the head reads of every text of a source, [N, F] in the order of its rows."""

    def compute(rows: NDArray[np.int64]) -> Floats:
        return classifier.head_input(*source.batch(rows.tolist())).float().cpu().numpy()

    budget = TAIL_BUDGETS * device.token_budget
    return in_order(run_by_length(compute, source.encoded.lengths, device, token_budget=budget), len(source.encoded))


def in_order(batches: Iterable[tuple[NDArray[np.int64], Floats]], n_rows: int) -> Floats:
    """The rows [N, F] of batches, each with the places of its rows."""
    vectors = np.empty((0, 0), dtype=np.float32)
    for rows, batch in batches:
        if not vectors.size:
            vectors = np.empty((n_rows, batch.shape[1]), dtype=np.float32)
        vectors[rows] = batch
    return vectors
