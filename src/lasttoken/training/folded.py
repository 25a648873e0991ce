"""A tail that is trained on few rows: first on parts of them, to be scored, then on all, validation among them.

    train + validation ─► parts ─► linear head on the pretrained blocks ─► tail of each part ─► logits of its other rows
                                  └► linear head of all rows ─► tail of all rows: the classifier

With a few dozen rows a validation split of a tenth says next to nothing, and its rows are missed in training. The parts
are five folds where that is quick, and else train alone, scored on validation. The history is that of the first part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.classifier.classifier import Classifier
from lasttoken.core.config import Settings
from lasttoken.evaluation.tasks.task import Truth
from lasttoken.training.held_out import FEW_ROWS, Part, best_place
from lasttoken.training.linear import PRECISE, Head
from lasttoken.training.linear_training import Problem, head_inputs, make_problem, set_head, walk
from lasttoken.training.loop import (
    HeldOut,
    Hooks,
    Line,
    Trainer,
    TrainingInputs,
    TrainingOutcome,
)
from lasttoken.training.pool import Pool, Rows
from lasttoken.training.split_features import SplitFeatures, tail_logits
from lasttoken.training.updates import Updates

FOLDED = 20_000  # tokens, over all epochs, up to which a tail is trained in folds, which takes five times as long
REFITTED = 45_000  # up to which it is trained again on train and validation together, which takes twice as long


@dataclass(frozen=True)
class LinearHeads:
    """Logistic regressions on what the head reads before the tail is trained, at the best C."""

    problem: Problem
    parts: list[Head]  # fitted to the rows of each part
    strength: float  # the best C

    @property
    def rows(self) -> list[Part]:
        """The rows that each part is fitted to, and those that it is scored on."""
        return self.problem.parts

    def whole(self) -> Head:
        """The head fitted to all rows of train and validation."""
        rows = np.arange(len(self.problem.features), dtype=np.int64)
        return self.problem.path(rows, self.problem.all_weights, None, PRECISE).solve(self.strength)


def refits(splits: Mapping[str, SplitFeatures], settings: Settings) -> bool:
    """Whether train and validation are so little that a tail is trained again on both together.

    Parts have no common best step, so the last weights must be the ones that are kept.
    """
    keeps_last = settings.keep == "last" and not settings.patience
    return keeps_last and _n_tokens(splits, settings) <= REFITTED and len(splits["validation"]) < FEW_ROWS


def _n_tokens(splits: Mapping[str, SplitFeatures], settings: Settings) -> int:
    return settings.n_epochs * sum(splits[name].source.encoded.n_tokens for name in ("train", "validation"))


def linear_heads(classifier: Classifier, inputs: TrainingInputs, in_folds: bool) -> LinearHeads:
    """Fit the heads that a tail starts from; with `balance` the rows are weighted as in the training."""
    named, settings = [inputs.splits["train"], inputs.splits["validation"]], replace(inputs.settings, metric="loss")
    vectors = np.concatenate([head_inputs(classifier, split.source, inputs.device) for split in named])
    problem = make_problem(classifier.config.task, vectors, named, settings, inputs.label_counts, in_folds)
    points = walk(problem)
    best = points[best_place([point.score for point in points])]
    return LinearHeads(problem, best.heads, best.strength)


class FoldedTail:
    """One training of a classifier's tail on few rows; it stands beside `Trainer` and `LinearTraining`."""

    def __init__(self, classifier: Classifier, inputs: TrainingInputs, hooks: Hooks | None = None) -> None:
        """Prepare the parts of "train" and "validation"."""
        self.classifier, self.inputs, self.hooks = classifier, inputs, hooks or Hooks()
        splits, settings = inputs.splits, inputs.settings
        named = [splits["train"], splits["validation"]]
        self.pool = Pool.whole([split.source for split in named])
        self.truth: Truth = np.concatenate([split.truth for split in named])
        self.weights = None
        if any(split.weights is not None for split in named):
            ones = [np.ones(len(split), np.float32) if split.weights is None else split.weights for split in named]
            self.weights = np.concatenate(ones)
        in_folds = _n_tokens(splits, settings) <= FOLDED
        self.heads = linear_heads(classifier, inputs, in_folds)
        self._start = {name: parameter.detach().clone() for name, parameter in classifier.trained().items()}
        self._part, self._history = 0, list[Line]()

    def run(self) -> TrainingOutcome:
        """Train on each part, then on all rows.

        Raises:
            DivergedError: a loss is not finite.
        """
        logits, interrupted = [], False
        for place, (part, head) in enumerate(zip(self.heads.rows, self.heads.parts, strict=True)):
            self._part = place
            trainer = self._trainer(part.fitted, part.scored, head)
            interrupted = trainer.run().stopped == "interrupted" or interrupted
            self._history = self._history or trainer.state.history
            logits.append(tail_logits(self.classifier, self.pool.take(part.scored), self.inputs.device))
        everything = np.arange(len(self.truth), dtype=np.int64)
        self._part = len(self.heads.rows)
        outcome = self._trainer(everything, self.heads.rows[0].scored, self.heads.whole()).run()
        interrupted = interrupted or outcome.stopped == "interrupted"
        stopped = "interrupted" if interrupted else None
        return TrainingOutcome(self._history, self._history[-1]["step"], stopped, self._held_out(logits))

    @property
    def total_steps(self) -> int:
        """The steps of all trainings."""
        settings = self.inputs.settings
        sizes = [len(part.fitted) for part in self.heads.rows] + [len(self.truth)]
        n_rows = settings.n_in_batch * settings.accumulate  # of an update
        return sum(-(-size // n_rows) for size in sizes) * settings.n_epochs

    def _trainer(self, rows: Rows, scored: Rows, head: Head) -> Trainer:
        """A training on these rows from the pretrained blocks; only the first part is evaluated in each epoch."""
        self._set(self._start)
        set_head(self.classifier, head)
        hooks = replace(self.hooks, save=None)
        if self._part:
            hooks = replace(hooks, on_line=lambda line: None)
        splits = {"train": self._take(rows), "validation": self._take(scored)}
        inputs = replace(self.inputs, splits=splits, make_updates=Updates)
        return Trainer(self.classifier, inputs, hooks, evaluates=not self._part)

    def _take(self, rows: Rows) -> SplitFeatures:
        weights = None if self.weights is None else self.weights[rows]
        return SplitFeatures(self.pool.take(rows), self.truth[rows], weights)

    @torch.no_grad()
    def _set(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self.classifier.trained().items():
            parameter.copy_(weights[name])

    def _held_out(self, logits: list[NDArray[np.float32]]) -> HeldOut:
        scored, n_train = np.concatenate([part.scored for part in self.heads.rows]), len(self.inputs.splits["train"])
        joined, is_validation = np.concatenate(logits), scored >= n_train
        rows = scored[is_validation] - n_train
        return HeldOut(joined, self.truth[scored], rows, joined[is_validation], tuple(self.heads.rows))
