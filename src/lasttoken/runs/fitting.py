"""Trainings that are fitted by a plan, and the better of two: a linear head beside a tail, on the same features.

    tail's features: tokens after block d ──► final norm, pooling ──► linear head of the first d blocks ─┐
                     └──────────────────────► blocks d, … ──► tail ─────────────────────────────────────┴─► the better

The tail's trunk ends where the linear head reads, so both need one pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lasttoken.classifier.encoding import run_by_length
from lasttoken.core.config import Settings
from lasttoken.core.metric_registry import METRICS
from lasttoken.core.progress import Reporter
from lasttoken.runs.choice import Candidate, Plan
from lasttoken.runs.session import Session, open_session
from lasttoken.training.depths import pool_states, pooled
from lasttoken.training.held_out import Score, best_place, score_of
from lasttoken.training.label_words import label_rows, target_of
from lasttoken.training.linear_training import LinearTraining, in_order
from lasttoken.training.loop import CHECKPOINT_EVERY_S, SplitFeatures, Trainer, TrainingOutcome, tail_logits
from lasttoken.training.repeater import Repeater


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


def make_training(
    plan: Plan,
    session: Session,
    features: Mapping[str, SplitFeatures],
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
) -> Trainer | LinearTraining:
    """The training of a session by the method of its settings."""
    prepared, settings = session.prepared, session.settings
    if settings.method != "linear":
        return Trainer(
            prepared.classifier,
            features,
            settings,
            session.device,
            checkpoint_every_s=checkpoint_every_s,
            label_counts=prepared.label_counts,
        )
    training = LinearTraining(
        prepared.classifier,
        features,
        settings,
        session.device,
        label_counts=prepared.label_counts,
        may_fold=prepared.splits.validation_is_cut,
    )
    if plan.label_words:
        rows = label_rows(prepared.classifier.decoder, prepared.predictor.tokenizer, prepared.labels)
        training.target = target_of(rows, training.problem.features, settings.read, plan.label_words)
    return training


def fit_beside(plan: Plan, session: Session, features: Mapping[str, SplitFeatures], *, offline: bool = False) -> Fitted:
    """The linear head of the plan, on the features of the tail's session if its trunk ends where the head reads."""
    assert plan.linear is not None
    silent = Reporter()
    beside = open_session(session.prepared.splits, plan.linear, session.device, offline=offline, reporter=silent)
    tail, known = session.prepared.classifier, {}
    if tail.keeps_tokens and tail.n_frozen == beside.prepared.classifier.n_frozen:
        known = {name: read_features(session, split, plan.linear.read) for name, split in features.items()}
    own = beside.features(silent, known)
    repeater = Repeater(beside.prepared, own) if repeats_trainings(plan.linear) else None
    training = make_training(plan, beside, own)
    assert isinstance(training, LinearTraining)
    return Fitted(beside, own, training.run(), repeater)


def read_features(session: Session, split: SplitFeatures, read: str) -> NDArray[np.float32]:
    """What a linear head reads where the tail's trunk ends, [N, F], before the tail is trained."""
    classifier, device, encoded = session.prepared.classifier, session.device, split.source.encoded

    def compute(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        states, packing = split.source.batch(rows.tolist())
        return pool_states(classifier, states.to(classifier.head.weight.dtype), packing).float().cpu().numpy()

    vectors = in_order(run_by_length(compute, encoded.lengths, device), len(encoded))
    return np.ascontiguousarray(pooled(vectors, read))


def choose_fitted(plan: Plan, main: Fitted, beside: Fitted | None, seconds: float) -> Fitted:
    """The better of one or two trainings, with the record of the choice."""
    candidates = list(plan.candidates)
    fitted = [(each, _candidate(plan, each, seconds if each is main else 0.0)) for each in (beside, main) if each]
    candidates += [candidate for _, candidate in fitted]
    best, chosen = fitted[best_place([candidate.score for _, candidate in fitted])]
    choice = {
        "metric": plan.asked.metric,
        "held_out": "folds of train and validation" if best.outcome.held_out else "validation",
        "candidates": [candidate.to_json() for candidate in candidates],
        "chosen": chosen.to_json(),
        "reason": f"best {plan.asked.metric} on held-out rows; equal ones by the loss",
        "trunk_s": plan.trunk_s,
        "seconds": round(plan.trunk_s + sum(candidate.seconds for candidate in candidates), 3),
    }
    return replace(best, choice=choice)


def _candidate(plan: Plan, fitted: Fitted, seconds: float) -> Candidate:
    """A finished training as a candidate, scored on the rows that were held out from it."""
    prepared, settings = fitted.session.prepared, fitted.session.settings
    kept = fitted.outcome.history[fitted.outcome.kept_step] if settings.method == "linear" else {}
    score = _score(fitted)
    return Candidate(
        method=settings.method,
        depth=prepared.classifier.decoder.config.n_layer,
        read=settings.read,
        metric=settings.metric,
        value=score.value,
        loss=score.loss,
        seconds=round(kept.get("seconds", seconds) if settings.method == "linear" else seconds, 3),
        C=kept.get("C"),
        label_words=plan.label_words if settings.method == "linear" else None,
    )


@torch.no_grad()
def _score(fitted: Fitted) -> Score:
    prepared, split = fitted.session.prepared, fitted.features["validation"]
    task, metric, held_out = prepared.classifier.config.task, fitted.session.settings.metric, fitted.outcome.held_out
    if held_out is not None:
        return score_of(task, held_out.logits, held_out.truth, metric)
    logits = tail_logits(prepared.classifier, split.source, prepared.predictor.device)
    return score_of(task, logits, split.truth, metric)
