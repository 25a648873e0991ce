"""The evaluation of a finished training: calibration, metrics on every split, baselines, slices and warnings.

features ─► logits ─► temperature, fitted on validation ─► probabilities ─► answers ─► metrics with intervals
                                                                            └► verdict, warnings, slices, errors
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.audit.audit import Audit
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.core.config import Settings
from lasttoken.core.errors import SettingsError, one_of
from lasttoken.core.metric_registry import metrics_at
from lasttoken.data.label_tables import label_counts
from lasttoken.evaluation.baselines import Baseline
from lasttoken.evaluation.calibration import expected_calibration_error, reliability_bins, top_label
from lasttoken.evaluation.decision import Decision
from lasttoken.evaluation.decision_flags import AUTO, Target, parse_targets
from lasttoken.evaluation.diagnosis import UNEVEN, Remedies, diagnose
from lasttoken.evaluation.intervals import share_right
from lasttoken.evaluation.slices import Slice, length_quarters, slice_accuracy
from lasttoken.evaluation.targets import Reached, TargetResult, threshold_for
from lasttoken.evaluation.tasks import SplitMetrics, Task, Truth, task_of
from lasttoken.evaluation.thresholds import likely_threshold
from lasttoken.evaluation.verdict import Verdict, judge
from lasttoken.runs.zero_shot import ask, parse_answers
from lasttoken.training.loop import Split, TrainingOutcome, tail_logits
from lasttoken.training.prepare import Prepared

TIMED_TEXTS = 64  # of the headline split, classified as `predict` classifies them

Logits = dict[str, NDArray[np.float32]]  # [N, K] by split


@dataclass(frozen=True)
class Scored:
    """The classifier on one split."""

    task: Task
    truth: Truth
    log_probs: NDArray[np.float32]  # [N, K], calibrated
    predicted: Truth  # by the decision rule
    answered: NDArray[np.bool_]  # [N], False where the classifier abstains
    metrics: SplitMetrics

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which rows [N] are predicted correctly."""
        return self.metrics.correct

    def answer_probs(self) -> NDArray[np.float64]:
        """The probability [N] of each prediction, or of the most probable label of a multi-label task."""
        label_ids = self.explained_label_ids()
        return np.asarray(np.exp(self.log_probs[np.arange(len(label_ids)), label_ids]), dtype=np.float64)

    def explained_label_ids(self) -> NDArray[np.int64]:
        """The label [N] of `answer_probs`."""
        return self.task.explained_label_ids(self.log_probs, self.predicted)


@dataclass(frozen=True)
class Judged:
    """The results of evaluating a finished training."""

    headline: str  # the split whose metrics are reported: test, or validation if there is no test
    scored: dict[str, Scored]
    baselines: dict[str, Baseline]
    verdict: Verdict | None
    calibration: dict[str, Any] | None
    unleaked: dict[str, dict[str, Any]]  # accuracy on the rows without a near-duplicate in train
    slices: list[Slice]
    warnings: list[str]
    audit: Audit
    targets: list[TargetResult]

    @property
    def on_headline(self) -> Scored:
        """The classifier on the headline split."""
        return self.scored[self.headline]


def calibrate(prepared: Prepared, features: Mapping[str, Split], settings: Settings) -> Logits:
    """Fit temperature and decision rule on validation and store them in the classifier; the logits by split."""
    classifier = prepared.classifier
    logits = {
        name: tail_logits(classifier, split.source, prepared.predictor.device) for name, split in features.items()
    }
    held_out, truth = logits["validation"], features["validation"].truth
    task = classifier.config.task
    temperature = task.fit_temperature(held_out, truth) if settings.calibrate else 1.0
    rest, targets = parse_targets(settings.threshold, prepared.labels)
    log_probs = task.log_probs(held_out, temperature)
    decision = task.parse_decision(rest, settings.cost).over(_fit_targets(task, targets, truth, log_probs))
    decision = task.fit_decision(decision, log_probs, truth, auto=settings.threshold == AUTO)
    classifier.config = replace(classifier.config, temperature=temperature, decision=decision)
    return logits


def _fit_targets(task: Task, targets: Sequence[Target], truth: Truth, log_probs: NDArray[np.float32]) -> Decision:
    """The thresholds that reach the targets on these rows, or come nearest to them."""
    probs = np.exp(log_probs.astype(np.float64))
    fitted = {
        target.label_id: threshold_for(target, task.has_label(truth, target.label_id), probs[:, target.label_id])
        for target in targets
    }
    return Decision(
        thresholds=tuple((label_id, threshold) for label_id, threshold in fitted.items() if threshold is not None)
    )


def _target_results(prepared: Prepared, scored: Mapping[str, Scored], threshold: str | None) -> list[TargetResult]:
    thresholds = dict(prepared.classifier.config.decision.thresholds)
    return [
        TargetResult(
            prepared.labels[target.label_id],
            target,
            thresholds.get(target.label_id),
            {name: _reached(target, split) for name, split in scored.items() if name != "train"},
        )
        for target in parse_targets(threshold, prepared.labels)[1]
    ]


def _reached(target: Target, scored: Scored) -> Reached:
    found = scored.metrics.per_label[target.label_id]
    if target.metric == "recall":
        return Reached(found.recall, found.recall_ci95, found.n)
    return Reached(
        found.precision, found.precision_ci95, int(scored.task.has_label(scored.predicted, target.label_id).sum())
    )


def judge_training(
    prepared: Prepared,
    features: Mapping[str, Split],
    logits: Logits,
    outcome: TrainingOutcome,
    baselines: Mapping[str, Baseline],
    audited: Audit,
    settings: Settings,
) -> Judged:
    """Everything that is scored_headline of a training; `looked` is the audit of its splits."""
    leaked = audited.leaked_rows()
    scored = {name: _score(prepared, split.truth, logits[name], name) for name, split in features.items()}
    headline = "test" if "test" in scored else "validation"
    scored_headline = scored[headline]
    majority = baselines["majority"].metrics.get(headline) if "majority" in baselines else None
    return Judged(
        headline,
        scored,
        dict(baselines),
        _verdict(prepared, scored_headline, baselines, headline, audited.split_rows()[headline]),
        _calibration(prepared, scored_headline, logits[headline], headline),
        {name: share_right(scored[name].correct[~rows]) for name, rows in leaked.items()},
        slice_accuracy(
            scored_headline.correct, _keys(prepared, scored_headline, headline, leaked.get(headline), settings.slice_by)
        ),
        diagnose(
            scored_headline.task,
            {name: split.metrics for name, split in scored.items()},
            headline,
            scored_headline.task.n_given(scored_headline.predicted),
            outcome.history,
            majority,
            _remedies(prepared, scored["validation"], settings),
        ),
        audited,
        _target_results(prepared, scored, settings.threshold),
    )


def _remedies(prepared: Prepared, held_out: Scored, settings: Settings) -> Remedies:
    """The advice for a classifier that predicts one label for every text: flags with values that have an effect."""
    rate, epochs = settings.learning_rate or 0.0, settings.epochs
    counts = label_counts(prepared.splits.train)
    rare = held_out.task.dominated_label(counts, UNEVEN)
    if rare is None or settings.threshold or settings.cost or any(character in rare for character in ",=@"):
        return Remedies(rate, epochs)
    probs = np.exp(held_out.log_probs[:, prepared.labels.index(rare)].astype(np.float64))
    threshold = likely_threshold(held_out.task.has_label(held_out.truth, prepared.labels.index(rare)), probs)
    return Remedies(rate, epochs, rare, counts[rare], sum(counts.values()), threshold)


def _score(prepared: Prepared, truth: Truth, logits: NDArray[np.float32], split: str) -> Scored:
    config = prepared.classifier.config
    task = config.task
    log_probs = task.log_probs(logits, config.temperature)
    predicted, answered = task.decide(log_probs, config.decision), task.answered(log_probs, config.decision)
    metrics = task.metrics(truth, log_probs=log_probs, predicted=predicted, intervals=split != "train")
    return Scored(task, truth, log_probs, predicted, answered, metrics)


def check_judging(settings: Settings, labels: Sequence[str]) -> None:
    """Reject, before training, decision rules and answers that do not match the labels.

    Raises:
        SettingsError: see `Task.parse_decision` and `parse_answers`; or answers for other labels.
    """
    rest, targets = parse_targets(settings.threshold, labels)
    task_of(labels, settings.separator).parse_decision(rest, settings.cost)
    if targets and (settings.cost or rest == AUTO):
        raise SettingsError(
            f"--threshold {settings.threshold} and {'--cost' if settings.cost else AUTO} both decide which label is "
            "predicted; use one of them"
        )
    if settings.answers is not None and set(parse_answers(settings.answers)) != set(labels):
        raise SettingsError(
            f"--answers is {settings.answers!r}; give one answer for each of {one_of(labels)}, and no other"
        )


def ask_baseline(prepared: Prepared, settings: Settings, offline: bool) -> dict[str, Baseline]:
    """The untrained backbone's zero-shot answers as a baseline, where they are asked for (`settings.answers`)."""
    if settings.answers is None:
        return {}
    named = prepared.splits.named()
    split = "test" if "test" in named else "validation"
    backbone = load_backbone(settings.backbone, offline)
    answers = parse_answers(settings.answers)
    started = time.perf_counter()
    found = ask(backbone, named[split], {label: answers[label] for label in prepared.labels}, write=False)
    seconds = time.perf_counter() - started
    ids = {label: label_id for label_id, label in enumerate(prepared.labels)}
    predicted = np.array([ids[label] for label in found.predicted], dtype=np.int64)
    note = "ask: the untrained backbone's more probable answer to the question of chapter 6"
    return {"ask": Baseline({split: found.scored}, {split: predicted}, seconds, note)}


def _verdict(
    prepared: Prepared,
    scored_headline: Scored,
    baselines: Mapping[str, Baseline],
    headline: str,
    groups: NDArray[np.intp],
) -> Verdict | None:
    measured = {name: baseline for name, baseline in baselines.items() if headline in baseline.predicted}
    seconds = {
        name: baseline.predict_s / sum(map(len, baseline.predicted.values())) for name, baseline in measured.items()
    }
    seconds["ours"] = _seconds_per_text(prepared, headline)
    predicted = {name: baseline.predicted[headline] for name, baseline in measured.items()}
    return judge(
        scored_headline.task,
        scored_headline.truth,
        scored_headline.predicted,
        predicted,
        seconds_per_row=seconds,
        groups=groups,
    )


def _seconds_per_text(prepared: Prepared, split: str) -> float:
    texts = prepared.splits.named()[split].texts[:TIMED_TEXTS]
    started = time.perf_counter()
    prepared.predictor.predict(texts)
    return (time.perf_counter() - started) / len(texts)


def _calibration(
    prepared: Prepared, scored_headline: Scored, logits: NDArray[np.float32], split: str
) -> dict[str, Any] | None:
    """The effect of the temperature on the headline split (on which it was fitted if that is validation)."""
    config = prepared.classifier.config
    raw = scored_headline.task.log_probs(logits)
    before = scored_headline.task.metrics(scored_headline.truth, log_probs=raw, intervals=True)
    pairs = {"before": (raw, before), "after": (scored_headline.log_probs, scored_headline.metrics)}
    decisions = {
        name: scored_headline.task.reliability_rows(log_probs, scored_headline.truth)
        for name, (log_probs, _) in pairs.items()
    }
    return {
        "temperature": config.temperature,
        "split": split,
        **{name: _calibration_metrics(metrics, *decisions[name]) for name, (_, metrics) in pairs.items()},
        **{f"bins_{name}": [each.to_json() for each in reliability_bins(*rows)] for name, rows in decisions.items()},
    }


def _calibration_metrics(
    metrics: SplitMetrics, log_probs: NDArray[np.floating], truth: NDArray[np.int64]
) -> dict[str, Any]:
    content = {"ece": expected_calibration_error(*top_label(log_probs, truth)), **metrics.to_json()}
    names = [name for metric in metrics_at("calibration") for name in (metric.name, f"{metric.name}_ci95")]
    return {name: content[name] for name in names if name in content}


def _keys(
    prepared: Prepared, scored_headline: Scored, split: str, leaked: NDArray[np.bool_] | None, slice_by: str | None
) -> dict[str, Sequence[str]]:
    examples = prepared.splits.named()[split]
    keys: dict[str, Sequence[str]] = {
        **scored_headline.task.slice_keys(scored_headline.truth),
        "length": length_quarters(examples.texts),
    }
    if leaked is not None and leaked.any():
        keys["near train"] = ["near-duplicate in train" if row else "no near-duplicate in train" for row in leaked]
    if examples.slices is not None:
        keys[slice_by or "slice"] = examples.slices
    return keys
