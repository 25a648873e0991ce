"""The training loop. It is the same whether the head, the last blocks or all blocks are trained.

    order ──► rows of a batch ──► features ──► tail ──► cross-entropy ──► AdamW          a step
                                                        every n steps, each epoch:      an evaluation, a line of history

With `accumulate` n a step is n batches and one update (accumulation.py).

There are two kinds of evaluation. With `eval_batches` m, as in chapter 6, losses are measured on the first m batches of
train and validation every `eval_every` steps, and accuracies on m batches at the end of each epoch. With m = 0, losses
and accuracies are measured on the whole validation split and on as many examples of train.

Step 1 is the first update. The chapter counts from 0 and evaluates at its steps 0, 50, 100, …, which are steps 1, 51,
101, … here. Its steps are batches: with `eval_batches` `eval_every` counts batches too, elsewhere updates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.classifier.classifier import Classifier
from lasttoken.core.config import Settings
from lasttoken.core.device import Device
from lasttoken.core.errors import DivergedError
from lasttoken.core.metric_registry import METRICS, metrics_at
from lasttoken.core.process import scarce_memory
from lasttoken.evaluation.tasks.task import Truth
from lasttoken.training.accumulation import MicroBatch, micro_batches, n_updates
from lasttoken.training.balance import epoch_rows, label_weights, prior_shift
from lasttoken.training.features import FeatureSource
from lasttoken.training.held_out import Part
from lasttoken.training.order import Order, batches
from lasttoken.training.split_features import SplitFeatures
from lasttoken.training.updates import MakeUpdates, Updates

CHECKPOINT_EVERY_S = 30.0  # between saved states

Line = dict[str, Any]  # a line of history.jsonl


@dataclass(frozen=True)
class TrainingInputs:
    """What a classifier is trained on, and how."""

    splits: Mapping[str, SplitFeatures]  # "train", "validation" and perhaps "test", which is read before the first step
    settings: Settings
    device: Device
    label_counts: NDArray[np.int64] | None = None  # [K], rows of each label before undersampling; None: those of train
    may_fold: bool = False  # whether validation was cut from the same rows as train, see held_out.py
    make_updates: MakeUpdates = Updates  # what computes the steps: this process, or several (shared_updates.py)


@dataclass
class State:
    """The progress of a training. All of it is saved, so that a resumed training equals an uninterrupted one."""

    step: int = 0
    epoch: int = 0  # complete passes over train
    examples_seen: int = 0
    done_batches: int = 0  # of the current pass
    permutation: list[int] = field(default_factory=list)  # of the current pass
    best_value: float | None = None
    best_step: int = 0
    since_best: int = 0  # evaluations since the best one
    loss_sum: float = 0.0  # over examples since the last evaluation; for the progress bar
    loss_examples: int = 0
    history: list[Line] = field(default_factory=list)

    @property
    def running_loss(self) -> float | None:
        """The mean training loss since the last evaluation; None before the first step."""
        return self.loss_sum / self.loss_examples if self.loss_examples else None


@dataclass(frozen=True)
class Hooks:
    """Functions that the loop calls."""

    on_line: Callable[[Line], None] = lambda line: None
    on_step: Callable[[State], None] = lambda state: None
    should_stop: Callable[[], bool] = lambda: False
    save: Callable[[Trainer], None] | None = None


@dataclass(frozen=True)
class HeldOut:
    """Logits of rows of train and validation, each from a classifier that was not fitted to the row."""

    logits: NDArray[np.float32]  # [M, K]
    truth: Truth  # of these rows
    validation_rows: NDArray[np.int64]  # the rows of validation among them, by their places in that split
    validation_logits: NDArray[np.float32]
    parts: tuple[Part, ...]  # rows of train and validation that were fitted and scored, in the order of the rows


@dataclass(frozen=True)
class TrainingOutcome:
    """How a training ended."""

    history: list[Line]
    kept_step: int
    stopped: str | None  # "early" or "interrupted"; None: all epochs were trained
    held_out: HeldOut | None = None  # where the weights were fitted to validation too


class Trainer:
    """One training of a classifier's tail."""

    def __init__(
        self,
        classifier: Classifier,
        inputs: TrainingInputs,
        hooks: Hooks | None = None,
        checkpoint_every_s: float = CHECKPOINT_EVERY_S,
        evaluates: bool = True,
    ) -> None:
        """Prepare a training.

        Args:
            evaluates: whether the start and each epoch are evaluated; otherwise only the end is, where the last weights
                are kept and nothing else depends on evaluations.
        """
        splits, settings, self.device = inputs.splits, inputs.settings, inputs.device
        self.evaluates = True
        self.classifier, self.splits = classifier, splits
        self.hooks = hooks or Hooks()
        self.checkpoint_every_s = checkpoint_every_s
        self.settings = settings
        if not evaluates:
            self.skip_evaluations()
        self.task = classifier.config.task
        self.order = Order(settings.seed)
        self.state = State()
        self.best: dict[str, Tensor] = {}
        self.shift: NDArray[np.float32] | None = None
        self.rows = np.arange(len(splits["train"]), dtype=np.int64)
        weights = None
        if settings.train_balance != "none":
            weights = self._balance(np.asarray(splits["train"].truth, dtype=np.int64), inputs.label_counts)
        self.updates = inputs.make_updates(classifier, splits, settings, self.device, weights)
        self.parameters, self.optimizer = self.updates.parameters, self.updates.optimizer
        self.batches_per_epoch = len(batches(self.rows.tolist(), settings.n_in_batch, settings.drop_last))
        self.total_steps = n_updates(self.batches_per_epoch, settings.accumulate) * settings.n_epochs

    def skip_evaluations(self) -> None:
        """Evaluate the end only, if the last weights are kept and nothing depends on evaluations.

        The weights stay the same: the order of the examples moves on as if the chapter's batches were evaluated.
        """
        self.evaluates = self.settings.keep != "last" or self.settings.patience > 0

    def _balance(self, train_ids: NDArray[np.int64], label_counts: NDArray[np.int64] | None) -> Tensor | None:
        """Apply the setting `balance`, see balance.py; the weights of the labels, if they have any."""
        n_labels, balance = len(self.classifier.config.labels), self.settings.train_balance
        self.rows = epoch_rows(train_ids, balance, self.settings.seed)
        self.shift = prior_shift(np.bincount(train_ids, minlength=n_labels) if label_counts is None else label_counts)
        if balance != "weights":
            return None
        return torch.from_numpy(label_weights(train_ids, n_labels)).to(self.device.torch_device)

    # ------------------------------------------------------------------ the loop

    def run(self) -> TrainingOutcome:
        """Train from the current state to the end. Afterwards the classifier has the weights that are kept.

        Raises:
            DivergedError: a loss is not finite.
        """
        with scarce_memory(self.classifier.checkpoints_activations):
            self.updates.begin()
            try:
                stopped = self._steps()
                if stopped == "interrupted" and (
                    not self.state.history or self.state.history[-1]["step"] != self.state.step
                ):
                    self._evaluate("epoch")
            finally:
                self.updates.end()
        if self.settings.keep == "best" and self.best:
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(self.best[name])
        self._add_shift_to_bias()
        kept_step = self.state.best_step if self.settings.keep == "best" else self.state.step
        for line in self.state.history:
            line["best"] = line["step"] == kept_step
        return TrainingOutcome(self.state.history, kept_step, stopped)

    def _add_shift_to_bias(self) -> None:
        """Add the prior shift to the head's bias, see balance.py."""
        if self.shift is not None:
            bias = self.classifier.head.bias
            assert bias is not None  # the settings reject `balance` without it
            with torch.no_grad():
                bias.add_(torch.from_numpy(self.shift).to(bias))
        self.shift = None

    def _steps(self) -> str | None:
        state, settings = self.state, self.settings
        if not state.history:
            self._evaluate("start")
            self.order.reseed(settings.seed)
        last_saved = time.monotonic()
        while state.epoch < settings.n_epochs:
            if not state.permutation:
                state.permutation = self.rows[self.order.shuffled(len(self.rows))].tolist()
            epoch_batches = self._micro_batches()
            while state.done_batches < len(epoch_batches):
                batch = epoch_batches[state.done_batches]
                self._step(batch)
                if self._is_time_to_evaluate(batch):
                    self._evaluate("step")
                if batch.updates:
                    self.hooks.on_step(state)
                if self.hooks.should_stop():
                    return "interrupted"
                if self._is_out_of_patience():
                    return "early"
                is_due = batch.updates and time.monotonic() - last_saved >= self.checkpoint_every_s
                if self.hooks.save and is_due:  # between updates there would be gradients to save
                    self.updates.collect()
                    self.hooks.save(self)
                    last_saved = time.monotonic()
            state.epoch, state.done_batches, state.permutation = state.epoch + 1, 0, []
            self._evaluate("epoch")
            if self._is_out_of_patience():
                return "early"
        return None

    def _micro_batches(self) -> list[MicroBatch]:
        """The batches of the current pass."""
        settings = self.settings
        return micro_batches(
            batches(self.state.permutation, settings.n_in_batch, settings.drop_last),
            settings.accumulate,
            self.updates.weight_of,
            settings.handling.fixed_shares,
        )

    def _is_time_to_evaluate(self, batch: MicroBatch) -> bool:
        """Whether an evaluation inside the epoch follows this batch, which has just been trained on."""
        state, every = self.state, self.settings.eval_every
        if self.settings.eval_batches:
            n_done = state.epoch * self.batches_per_epoch + state.done_batches
            return every > 0 and (n_done - 1) % every == 0
        return every > 0 and batch.updates and (state.step - 1) % every == 0

    def _step(self, batch: MicroBatch) -> None:
        """Add the gradient of a batch, and update the weights where its group ends."""
        state, rows = self.state, batch.rows
        rate = learning_rate(state.step, self.total_steps, self.settings)
        value = self.updates.add(batch, rate)
        if not math.isfinite(value):
            raise _diverged(f"the loss of step {state.step + 1} is {value}", rate)
        state.step += batch.updates
        state.done_batches += 1
        state.examples_seen += len(rows)
        state.loss_sum += value * len(rows)
        state.loss_examples += len(rows)

    def _is_out_of_patience(self) -> bool:
        return 0 < self.settings.patience <= self.state.since_best

    # ------------------------------------------------------------------ evaluations

    def _evaluate(self, kind: str) -> None:
        state, settings, started = self.state, self.settings, time.monotonic()
        if not self.evaluates and state.epoch < settings.n_epochs:
            if settings.eval_batches:
                self._evaluated_rows(kind)
            state.loss_sum, state.loss_examples = 0.0, 0
            return
        line: Line = {
            "kind": kind,
            "step": state.step,
            "epoch": round(state.epoch + state.done_batches / max(self.batches_per_epoch, 1), 6),
            "examples_seen": state.examples_seen,
            "learning_rate": learning_rate(max(state.step - 1, 0), self.total_steps, settings),
        }
        line.update(self._evaluate_batches(kind) if settings.eval_batches else self._evaluate_whole())
        line["evaluation_s"] = round(time.monotonic() - started, 4)
        self._follow_best(line)
        state.loss_sum, state.loss_examples = 0.0, 0
        state.history.append(line)
        self.hooks.on_line(line)

    def _evaluate_batches(self, kind: str) -> Line:
        """Evaluate as chapter 6: losses on m batches of each split, accuracies on m batches at the end of an epoch."""
        line: Line = {}
        for name, metric, rows in self._evaluated_rows(kind):
            metrics = self._metrics(name, rows)
            line[f"{name}_{metric}"] = metrics[metric]
            if metric == "accuracy" and name == "validation" and self.settings.keep == "best":  # the chapter: the last
                line[f"validation_{self.settings.metric}"] = metrics[self.settings.metric]
        return line

    def _evaluated_rows(self, kind: str) -> list[tuple[str, str, list[int]]]:
        """The split, the metric and the rows of each part of an evaluation as in chapter 6, drawn in its order."""
        m = self.settings.eval_batches
        names = list(self.splits) if kind == "start" else ["train", "validation"]
        parts = []
        if kind in ("start", "epoch"):
            n_batches = 2 * m if kind == "start" else m
            parts += [(name, "accuracy", self._first_rows(name, n_batches)) for name in names]
        if kind in ("start", "step"):
            parts += [(name, "loss", self._first_rows(name, m)) for name in names]
        return parts

    def _evaluate_whole(self) -> Line:
        """Evaluate on all validation rows and on as many train rows, which are the same every time."""
        n_train, n_validation = len(self.splits["train"]), len(self.splits["validation"])
        train_rows = np.random.default_rng(self.settings.seed).permutation(n_train)[: min(n_train, n_validation)]
        train = self._metrics("train", sorted(train_rows.tolist()))
        validation = self._metrics("validation", list(range(n_validation)))
        line: Line = {f"train_{metric.name}": train[metric.name] for metric in metrics_at("train history")}
        return line | {f"validation_{name}": value for name, value in validation.items()}

    def _first_rows(self, name: str, n_batches: int) -> list[int]:
        """The rows of the first batches of a pass over a split, as the chapter's DataLoader yields them."""
        n, size = len(self.splits[name]), self.settings.n_in_batch
        rows = self.order.shuffled(n) if name == "train" else self.order.in_order(n)
        drop_last = self.settings.drop_last and name == "train"
        return [row for batch in batches(rows, size, drop_last)[:n_batches] for row in batch]

    def _metrics(self, name: str, rows: list[int]) -> Line:
        """The metrics of history.jsonl on these rows of a split."""
        split = self.splits[name]
        logits = self.logits(split.source, rows)
        if not np.isfinite(logits).all():
            rate = learning_rate(max(self.state.step - 1, 0), self.total_steps, self.settings)
            raise _diverged(f"the logits after step {self.state.step} are not finite", rate)
        log_probs = self.task.log_probs(logits, self.classifier.config.temperature)
        metrics = self.task.metrics(split.truth[rows], log_probs=log_probs)
        return {metric.name: metrics.value(metric.name) for metric in metrics_at("history", self.task.kind)}

    def logits(self, source: FeatureSource, rows: list[int] | None = None) -> NDArray[np.float32]:
        """Logits [N, K] of these rows of a split (None: all), in their order, with the prior shift."""
        logits = self.updates.logits(source, rows)
        return logits if self.shift is None else np.asarray(logits + self.shift, dtype=np.float32)

    def _follow_best(self, line: Line) -> None:
        metric = self.settings.metric
        value = line.get(f"validation_{metric}")
        if self.settings.keep != "best" or value is None:
            return
        last = self.state.history[-1] if self.state.history else {}
        if last.get("step") == line["step"] and last.get(f"validation_{metric}") is not None:
            return  # the same weights were evaluated at the end of the epoch and by --eval-every
        best, sign = self.state.best_value, 1 if METRICS[metric].direction == "max" else -1
        if best is None or sign * value > sign * best:
            self.state.best_value, self.state.best_step, self.state.since_best = value, line["step"], 0
            self.updates.collect()
            self.best = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        else:
            self.state.since_best += 1


def _diverged(fault: str, rate: float) -> DivergedError:
    return DivergedError(f"{fault} at learning rate {rate:g}; try --learning-rate {rate / 10:g}, or --clip-norm 1")


def learning_rate(step: int, total_steps: int, settings: Settings) -> float:
    """The rate of the update after `step` updates: linear warm-up, then constant or half a cosine down to zero."""
    assert settings.learning_rate is not None  # Settings.completed has set it
    warmup = round(settings.warmup_fraction * total_steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    progress = (step - warmup) / max(total_steps - warmup, 1)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
