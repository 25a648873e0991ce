"""Trainings that are fitted by a plan, and the better of two: a linear head beside a tail, on the same features.

    tail's features: tokens after block f ──► blocks to d, final norm, pooling ──► linear head of d blocks ─┐
                     └──────────────────────► tail: blocks after f, trained ───────────────────────────────┴► the better

The tail's trunk ends where the linear head reads, f = d, or some blocks before; then only these are computed for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.encoding import run_by_length
from lasttoken.core.config import Settings
from lasttoken.core.metric_registry import METRICS
from lasttoken.core.progress import Reporter
from lasttoken.evaluation.tasks.task import Task, Truth
from lasttoken.runs.choice import Candidate, Plan
from lasttoken.runs.session import Session, open_session
from lasttoken.training.depths import pool_states, pooled
from lasttoken.training.held_out import best_place, calibrated_losses, mean_and_error, score_of
from lasttoken.training.label_words import label_rows, target_of
from lasttoken.training.linear_training import LinearTraining, in_order
from lasttoken.training.loop import CHECKPOINT_EVERY_S, TrainingInputs, TrainingOutcome
from lasttoken.training.methods import Training, make_training
from lasttoken.training.repeater import Repeater
from lasttoken.training.shared_updates import LeadingUpdates
from lasttoken.training.split_features import SplitFeatures, tail_logits


@dataclass(frozen=True)
class Fitted:
    """A finished training with all that judging it needs."""

    session: Session
    features: dict[str, SplitFeatures]
    outcome: TrainingOutcome
    repeater: Repeater | None
    choice: dict[str, Any] | None = None  # what was tried and chosen, for metrics.json

    def choice_in_words(self) -> str:
        """One sentence about the choice."""
        assert self.choice is not None
        candidates = [Candidate(**each) for each in self.choice["candidates"]]
        chosen, metric = Candidate(**self.choice["chosen"]), METRICS[self.choice["metric"]]

        def value(candidate: Candidate) -> str:
            return metric.formatted({metric.name: candidate.value})

        others = [each for each in candidates[-2:] if {each.method, chosen.method} == {"linear", "tail"}]
        rest = "".join(f"; {other.in_words()}: {value(other)}" for other in others)
        seconds = self.choice["seconds"]
        return (
            f"chosen on {self.choice['held_out']}: {chosen.in_words()}, {metric.title} {value(chosen)}{rest} "
            f"({len(candidates)} candidates, {seconds:.0f} s)"
        )


def repeats_trainings(settings: Settings) -> bool:
    """Whether further trainings follow the run's own."""
    return settings.seeds > 1 or bool(settings.folds) or settings.learning_curve


def start_training(
    plan: Plan,
    session: Session,
    features: Mapping[str, SplitFeatures],
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
) -> Training:
    """The training of a session by the method of its settings."""
    prepared, settings = session.prepared, session.settings
    may_fold = prepared.splits.validation_is_cut
    inputs = TrainingInputs(features, settings, session.device, prepared.label_counts, may_fold)
    if (shared := session.trunk.shared) is not None and shared.team.is_open:
        inputs = replace(inputs, make_updates=partial(LeadingUpdates, shared))
    training = make_training(prepared.classifier, inputs, checkpoint_every_s=checkpoint_every_s)
    if plan.label_words and isinstance(training, LinearTraining):
        rows = label_rows(prepared.classifier.decoder, prepared.predictor.tokenizer, prepared.labels)
        training.target = target_of(rows, training.problem.features, settings.read, plan.label_words)
    return training


def fit_beside(plan: Plan, session: Session, features: Mapping[str, SplitFeatures], *, offline: bool = False) -> Fitted:
    """The linear head of the plan, on the features of the tail's session if its trunk ends where the head reads."""
    assert plan.linear is not None
    silent = Reporter()
    beside = open_session(session.prepared.splits, plan.linear, session.device, offline=offline, reporter=silent)
    tail, depth, known = session.prepared.classifier, beside.prepared.classifier.n_frozen, {}
    assert depth is not None
    if tail.keeps_tokens and tail.n_frozen is not None and _may_go_on(tail, depth):
        known = {name: read_features(session, split, depth, plan.linear.read) for name, split in features.items()}
    own = beside.features(silent, known)
    repeater = Repeater(beside.prepared, own) if repeats_trainings(plan.linear) else None
    training = start_training(plan, beside, own)
    assert isinstance(training, LinearTraining)
    return Fitted(beside, own, training.run(), repeater)


def _may_go_on(tail: Classifier, depth: int) -> bool:
    """Whether what a linear head of so many blocks reads can be computed from the features of this tail."""
    assert tail.n_frozen is not None
    is_there = tail.n_frozen == depth
    return is_there or (tail.n_frozen < depth <= tail.decoder.config.n_layer and not tail.config.int8_trunk)


def read_features(session: Session, split: SplitFeatures, depth: int, read: str) -> NDArray[np.float32]:
    """What a linear head reads after `depth` blocks, [N, F]; it is computed from the tail's features before training.

    Blocks between the end of the tail's trunk and that depth are still the pretrained ones.
    """
    classifier, device, encoded = session.prepared.classifier, session.device, split.source.encoded
    between = classifier.decoder.blocks[classifier.n_frozen : depth]

    def compute(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        x, packing = split.source.batch(rows.tolist())
        x = x.to(classifier.head.weight.dtype)
        for block in between:
            x = block(x, packing, classifier.config.causal_mask)
        return pool_states(classifier, x.to(classifier.head.weight.dtype), packing).float().cpu().numpy()

    vectors = in_order(run_by_length(compute, encoded.lengths, device), len(encoded))
    return np.ascontiguousarray(pooled(vectors, read))


def choose_fitted(plan: Plan, main: Fitted, beside: Fitted | None, seconds: float) -> Fitted:
    """The better of one or two trainings, with the record of the choice.

    By the loss, a tail gives way to a linear head only if that is better by more than two standard errors: where they
    were compared on many rows, the tail was as good or better (docs/decisions/tail.md).
    """
    candidates, reason = list(plan.candidates), f"best {plan.asked.metric} on held-out rows; equal ones by the loss"
    linear_answers, tail_answers = (None, _answers(main)) if beside is None else _same_answers(beside, main)
    main_candidate = _candidate(plan, main, tail_answers, seconds)
    best, chosen, fitted = main, main_candidate, [main_candidate]
    if beside is not None and linear_answers is not None:
        linear = _candidate(plan, beside, linear_answers, 0.0)
        fitted = [linear, main_candidate]
        if plan.asked.metric == "loss":
            reason = "tail, unless the linear head has a smaller loss by more than two standard errors"
            takes_linear = _is_clearly_better(linear_answers, tail_answers)
        else:
            takes_linear = best_place([linear.score, main_candidate.score]) == 0
        best, chosen = (beside, linear) if takes_linear else (main, main_candidate)
    candidates += fitted
    choice = {
        "metric": plan.asked.metric,
        "held_out": "folds of train and validation" if best.outcome.held_out else "validation",
        "candidates": [candidate.to_json() for candidate in candidates],
        "chosen": chosen.to_json(),
        "reason": reason,
        "trunk_s": plan.trunk_s,
        "seconds": round(plan.trunk_s + sum(candidate.seconds for candidate in candidates), 3),
    }
    return replace(best, choice=choice)


@dataclass(frozen=True)
class Answers:
    """Logits of rows that were held out from a training."""

    task: Task
    logits: NDArray[np.float32]  # [M, K]
    truth: Truth

    def losses(self) -> NDArray[np.float64]:
        """The loss of each row at the best temperature, [M]."""
        return calibrated_losses(self.task, self.logits, self.truth)


def _is_clearly_better(ours: Answers, theirs: Answers) -> bool:
    """Whether the mean loss of `ours` is smaller by more than two standard errors of the rows' differences."""
    fall, error = mean_and_error(theirs.losses() - ours.losses())
    return fall > 2 * error


def _same_answers(linear: Fitted, tail: Fitted) -> tuple[Answers, Answers]:
    """The answers of both to the same rows: the folds', or those of validation."""
    folds, other = linear.outcome.held_out, tail.outcome.held_out
    if folds is None or (other is not None and len(folds.parts) == len(other.parts)):
        return _answers(linear), _answers(tail)
    of_tail = _answers(tail)
    if other is not None:
        of_tail = Answers(of_tail.task, other.validation_logits, other.truth)
    rows = folds.validation_rows  # the tail was scored on all of validation, and on nothing else
    shared = Answers(of_tail.task, of_tail.logits[rows], of_tail.truth[rows])
    return Answers(of_tail.task, folds.validation_logits, shared.truth), shared


@torch.no_grad()
def _answers(fitted: Fitted) -> Answers:
    prepared, split, held_out = fitted.session.prepared, fitted.features["validation"], fitted.outcome.held_out
    task = prepared.classifier.config.task
    if held_out is not None:
        return Answers(task, held_out.logits, held_out.truth)
    return Answers(task, tail_logits(prepared.classifier, split.source, prepared.predictor.device), split.truth)


def _candidate(plan: Plan, fitted: Fitted, answers: Answers, seconds: float) -> Candidate:
    """A finished training as a candidate, scored on rows that were held out from it."""
    prepared, settings = fitted.session.prepared, fitted.session.settings
    is_linear = settings.method == "linear"
    kept = fitted.outcome.history[fitted.outcome.kept_step] if is_linear else {}
    score = score_of(answers.task, answers.logits, answers.truth, settings.metric)
    return Candidate(
        method=settings.method,
        depth=prepared.classifier.decoder.config.n_layer,
        read=settings.read,
        metric=settings.metric,
        value=score.value,
        loss=score.loss,
        seconds=round(kept.get("seconds", seconds) if is_linear else seconds, 3),
        C=kept.get("C"),
        label_words=plan.label_words if is_linear else None,
        lora_rank=None if is_linear else settings.lora_rank,
    )
