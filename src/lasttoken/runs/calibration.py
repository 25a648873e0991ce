"""The calibration of a trained classifier: weight of n-grams, temperature and decision rule, fitted on validation.

logits of validation ─► + n-grams ─► temperature ─► log-probabilities ─► thresholds ─► the classifier's config
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.config import Settings
from lasttoken.core.metric_registry import metrics_at
from lasttoken.evaluation.baselines import LabelledTexts
from lasttoken.evaluation.calibration import expected_calibration_error, reliability_bins, top_label
from lasttoken.evaluation.decision import Decision
from lasttoken.evaluation.decision_flags import AUTO, Target, parse_targets
from lasttoken.evaluation.targets import threshold_for
from lasttoken.evaluation.tasks.task import SplitMetrics, Task, Truth
from lasttoken.runs.clock import Clock
from lasttoken.runs.scored import Scored, score_split
from lasttoken.training.blending import BlendFit, BlendRows, fit_blend
from lasttoken.training.loop import TrainingOutcome
from lasttoken.training.prepare import Prepared
from lasttoken.training.split_features import SplitFeatures, tail_logits

Logits = dict[str, NDArray[np.float32]]  # [N, K] by split


@dataclass(frozen=True)
class Calibrated:
    """The logits of a calibrated classifier on each split, and what it contains beside the GPT."""

    logits: Logits
    gpt: Logits  # of the GPT alone
    ngrams: BlendFit | None = None  # None: n-grams were not asked for


def calibrate(
    prepared: Prepared,
    features: Mapping[str, SplitFeatures],
    settings: Settings,
    outcome: TrainingOutcome,
    clock: Clock | None = None,
    scored: Collection[str] | None = None,
) -> Calibrated:
    """Fit the weight of n-grams, temperature and decision rule on validation and store them in the classifier.

    Where the weights were fitted to validation too, held-out rows take its place, and their logits that of its own.
    `scored`: the splits whose logits are wanted, validation among them; None: all.
    """
    classifier, clock = prepared.classifier, clock or Clock()
    with clock.part("evaluate"):
        gpt = {
            name: tail_logits(classifier, split.source, prepared.predictor.device)
            for name, split in features.items()
            if scored is None or name in scored
        }
    if outcome.held_out is not None:
        gpt["validation"][outcome.held_out.validation_rows] = outcome.held_out.validation_logits
    rows = _blend_rows(prepared, gpt, features, outcome)
    ngrams, logits, held_out = None, gpt, rows.logits
    if settings.adds_ngrams:
        with clock.part("ngrams"):
            ngrams = fit_blend(rows, settings)
            named = prepared.splits.named()
            logits, held_out = ngrams.applied(gpt, {name: named[name].texts for name in gpt}, rows)
    blend = ngrams.blend if ngrams else None
    if blend and ngrams:
        _, alone = _fit_rule(prepared, rows.logits, rows.truth, settings)
        blend, classifier.ngrams = replace(blend, gpt_decision=alone), ngrams.model
    temperature, decision = _fit_rule(prepared, held_out, rows.truth, settings)
    classifier.config = replace(classifier.config, temperature=temperature, decision=decision, blend=blend)
    return Calibrated(logits, gpt, ngrams)


def _blend_rows(
    prepared: Prepared, gpt: Logits, features: Mapping[str, SplitFeatures], outcome: TrainingOutcome
) -> BlendRows:
    named = prepared.splits.named()
    train, validation = (LabelledTexts(named[name].texts, features[name].truth) for name in ("train", "validation"))
    task, counts = prepared.classifier.config.task, prepared.label_counts
    return BlendRows(task, train, validation, gpt["validation"], outcome.held_out, counts)


def _fit_rule(
    prepared: Prepared, held_out: NDArray[np.float32], truth: Truth, settings: Settings
) -> tuple[float, Decision]:
    """The temperature and the decision rule for logits [M, K] of held-out rows."""
    task = prepared.classifier.config.task
    temperature = task.fit_temperature(held_out, truth) if settings.calibrate else 1.0
    flag, targets = parse_targets(settings.threshold, prepared.labels)
    log_probs = task.log_probs(held_out, temperature)
    decision = task.parse_decision(flag, settings.cost).over(_fit_targets(task, targets, truth, log_probs))
    return temperature, task.fit_decision(decision, log_probs, truth, auto=settings.threshold == AUTO)


def gpt_alone(prepared: Prepared, calibrated: Calibrated, features: Mapping[str, SplitFeatures]) -> dict[str, Any]:
    """Temperature, decision rule and metrics of the GPT without the n-grams, which exports have."""
    config = prepared.classifier.config
    assert config.blend is not None
    alone = replace(config, temperature=config.blend.gpt_temperature, decision=config.blend.gpt_decision, blend=None)
    splits = {
        name: score_split(alone, features[name].truth, logits, intervals=True).metrics.to_json()
        for name, logits in calibrated.gpt.items()
        if name != "train"
    }
    return {"temperature": alone.temperature, "decision": alone.task.rule_in_words(alone.decision), "splits": splits}


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


def temperature_effect(scored: Scored, logits: NDArray[np.float32]) -> dict[str, Any]:
    """Calibration metrics and reliability bins of one split before and after its logits [N, K] are divided."""
    raw = scored.task.log_probs(logits)
    before = scored.task.metrics(scored.truth, log_probs=raw, intervals=True)
    pairs = {"before": (raw, before), "after": (scored.log_probs, scored.metrics)}
    decisions = {name: scored.task.reliability_rows(log_probs, scored.truth) for name, (log_probs, _) in pairs.items()}
    return {
        **{name: _calibration_metrics(metrics, *decisions[name]) for name, (_, metrics) in pairs.items()},
        **{
            f"bins_{name}": [reliability_bin.to_json() for reliability_bin in reliability_bins(*rows)]
            for name, rows in decisions.items()
        },
    }


def _calibration_metrics(
    metrics: SplitMetrics, log_probs: NDArray[np.floating], truth: NDArray[np.int64]
) -> dict[str, Any]:
    content = {"ece": expected_calibration_error(*top_label(log_probs, truth)), **metrics.to_json()}
    names = [name for metric in metrics_at("calibration") for name in (metric.name, f"{metric.name}_ci95")]
    return {name: content[name] for name in names if name in content}
