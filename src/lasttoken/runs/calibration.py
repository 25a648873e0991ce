"""The calibration of a trained classifier: temperature and decision rule, fitted on validation.

logits of validation ─► temperature ─► log-probabilities ─► thresholds ─► the classifier's config
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.config import Settings
from lasttoken.core.metric_registry import metrics_at
from lasttoken.evaluation.calibration import expected_calibration_error, reliability_bins, top_label
from lasttoken.evaluation.decision import Decision
from lasttoken.evaluation.decision_flags import AUTO, Target, parse_targets
from lasttoken.evaluation.targets import threshold_for
from lasttoken.evaluation.tasks.task import SplitMetrics, Task, Truth
from lasttoken.runs.scored import Scored
from lasttoken.training.loop import SplitFeatures, TrainingOutcome, tail_logits
from lasttoken.training.prepare import Prepared

Logits = dict[str, NDArray[np.float32]]  # [N, K] by split


def calibrate(
    prepared: Prepared, features: Mapping[str, SplitFeatures], settings: Settings, outcome: TrainingOutcome
) -> Logits:
    """Fit temperature and decision rule on validation and store them in the classifier; the logits by split.

    Where the weights were fitted to validation too, held-out rows take its place, and their logits that of its own.
    """
    classifier = prepared.classifier
    logits = {
        name: tail_logits(classifier, split.source, prepared.predictor.device) for name, split in features.items()
    }
    held_out, truth = logits["validation"], features["validation"].truth
    if outcome.held_out is not None:
        held_out, truth = outcome.held_out.logits, outcome.held_out.truth
        logits["validation"][outcome.held_out.validation_rows] = outcome.held_out.validation_logits
    task = classifier.config.task
    temperature = task.fit_temperature(held_out, truth) if settings.calibrate else 1.0
    flag, targets = parse_targets(settings.threshold, prepared.labels)
    log_probs = task.log_probs(held_out, temperature)
    decision = task.parse_decision(flag, settings.cost).over(_fit_targets(task, targets, truth, log_probs))
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
