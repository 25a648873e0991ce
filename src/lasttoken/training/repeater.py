"""Repeated trainings of one classifier on the same features, with other seeds or rows; the trunk runs only once.

    features of train, validation, test ──► Pool: all rows as one source ──► fit(rows, settings)  ─► probabilities
                                                                               seeds, folds, sizes of train

Each training starts from the backbone's own tail and a new head. Afterwards the classifier gets its weights
back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.core.config import Settings
from lasttoken.data.files import Examples
from lasttoken.data.label_tables import labels_of
from lasttoken.data.splitting.cutting import cut_folds, cut_rows
from lasttoken.evaluation.baselines import LabelledTexts, LinearBaseline
from lasttoken.training.blending import BlendRows, fit_blend
from lasttoken.training.loop import HeldOut, Hooks, TrainingInputs
from lasttoken.training.methods import train_classifier
from lasttoken.training.pool import Pool
from lasttoken.training.prepare import Prepared
from lasttoken.training.split_features import SplitFeatures, tail_logits

Rows = NDArray[np.int64]


class Repeater:
    """Trains a run's classifier repeatedly. Create it before the first training: it copies the tail's first weights."""

    def __init__(self, prepared: Prepared, features: Mapping[str, SplitFeatures]) -> None:
        """`features`: the splits of the run; the pool has their rows in this order."""
        self.classifier, self.device = prepared.classifier, prepared.predictor.device
        named = prepared.splits.named()
        self.examples = pooled([named[name] for name in features])
        self.truth = np.concatenate([split.truth for split in features.values()])
        self.pool = Pool.whole([split.source for split in features.values()])
        ends = np.cumsum([len(split) for split in features.values()])
        parts = np.split(np.arange(len(self.truth), dtype=np.int64), ends[:-1])
        self.rows: dict[str, Rows] = dict(zip(features, parts, strict=True))  # rows of each split in the pool
        self.label_counts = prepared.label_counts
        self.may_fold = prepared.splits.validation_is_cut
        self.fitted: dict[str, LinearBaseline] = {}  # to train of the last training, by baseline
        self._parameters = self.classifier.trained()
        self._start = self._weights()

    def _weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def _set(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Train the classifier inside the block; its weights are restored afterwards."""
        required_grad = {name: parameter.requires_grad for name, parameter in self._parameters.items()}
        weights = self._weights()
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)
        try:
            yield
        finally:
            self._set(weights)
            for name, parameter in self._parameters.items():
                parameter.requires_grad_(required_grad[name])
                parameter.grad = None

    def _start_again(self, seed: int) -> None:
        """Restore the backbone's own tail, and draw a new head from the seed, and the updates of LoRA."""
        self._set(self._start)
        self.classifier.draw(seed)

    def fit(
        self,
        rows: Mapping[str, Rows],
        settings: Settings,
        score: Sequence[str] = ("test",),
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, NDArray[np.float32]]:
        """Train on the rows of "train" and choose the best weights on those of "validation".

        Call it inside `borrowed`. `rows` are row numbers of the pool; `settings.seed` draws the head and the order.
        Returns the log-probabilities [N, K] of the splits in `score`.

        Raises:
            DivergedError: a loss is not finite.
        """
        self._start_again(settings.seed)
        splits = {name: SplitFeatures(self.pool.take(part), self.truth[part]) for name, part in rows.items()}
        inputs = TrainingInputs(
            {name: splits[name] for name in ("train", "validation")},
            replace(settings, eval_every=0, eval_batches=0),
            self.device,
            self.label_counts,
            self.may_fold,
        )
        outcome = train_classifier(self.classifier, inputs, Hooks(should_stop=should_stop))
        task, temperature = self.classifier.config.task, 1.0
        logits = {name: self._logits(splits[name]) for name in score}
        if not settings.calibrate and not settings.adds_ngrams:
            return {name: task.log_probs(each, temperature) for name, each in logits.items()}
        held = self._blend_rows(rows, outcome.held_out, logits.get("validation", self._logits(splits["validation"])))
        held_out, self.fitted = held.logits, {}
        if settings.adds_ngrams:
            blended = fit_blend(held, settings)
            self.fitted = blended.fitted if outcome.held_out is None else {}
            logits, held_out = blended.applied(logits, {name: self.texts(rows[name]) for name in score}, held)
        temperature = task.fit_temperature(held_out, held.truth) if settings.calibrate else 1.0
        return {name: task.log_probs(each, temperature) for name, each in logits.items()}

    def texts(self, rows: Rows) -> list[str]:
        """The texts of rows of the pool."""
        return [self.examples.texts[row] for row in rows.tolist()]

    def _blend_rows(
        self, rows: Mapping[str, Rows], held_out: HeldOut | None, validation_logits: NDArray[np.float32]
    ) -> BlendRows:
        train, validation = (
            LabelledTexts(self.texts(rows[name]), self.truth[rows[name]]) for name in ("train", "validation")
        )
        task, counts = self.classifier.config.task, self.label_counts
        return BlendRows(task, train, validation, validation_logits, held_out, counts)

    def _logits(self, split: SplitFeatures) -> NDArray[np.float32]:
        return tail_logits(self.classifier, split.source, self.device)

    def folds(self, n_folds: int, validation_fraction: float, seed: int) -> list[dict[str, Rows]]:
        """The pool's rows split in `n_folds` ways: each row is in test once, and no text is in two splits of a fold.

        Rows of a label with too few rows for every fold are in train every time and never in test.

        Raises:
            DataError: see `cut_folds`.
        """
        folds, names = [], ("train", "validation")
        for test in cut_folds(self.examples, n_folds, seed).sides:
            not_test = np.setdiff1d(np.arange(len(self.examples)), test)
            share = validation_fraction / (1 - 1 / n_folds)
            train, validation = cut_rows(self.examples.take(not_test.tolist()), (1 - share, share), names, seed).sides
            folds.append({"train": not_test[train], "validation": not_test[validation], "test": test})
        return folds


def pooled(parts: Sequence[Examples]) -> Examples:
    """Concatenate labelled examples; groups are kept only if all parts have them."""
    groups = [part.groups for part in parts]
    return Examples(
        [text for part in parts for text in part.texts],
        [label for part in parts for label in labels_of(part)],
        groups=None if None in groups else [group for part_groups in groups for group in part_groups or []],
        source=parts[0].source,
        separator=parts[0].separator,
    )


def out_of_fold(
    repeater: Repeater,
    settings: Settings,
    n_folds: int,
    progress: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float32]:
    """Log-probabilities [N, K] of all rows of the pool, each from a classifier that was trained without the row.

    Rows of a label with too few rows for every fold have none: they are NaN.

    Raises:
        DataError: see `cut_folds`.
    """
    log_probs = np.full((len(repeater.truth), repeater.classifier.head.out_features), np.nan, dtype=np.float32)
    with repeater.borrowed():
        for rows in repeater.folds(n_folds, settings.validation_fraction, settings.seed):
            log_probs[rows["test"]] = repeater.fit(rows, settings)["test"]
            progress(1)
    return log_probs
