"""The evaluation of a finished training: metrics on every split, verdict, targets, slices and warnings.

logits ─► probabilities by the fitted temperature ─► predictions ─► metrics with intervals
                                                                └► verdict, warnings, slices, errors
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.audit.audit import Audit
from lasttoken.core.config import Settings
from lasttoken.data.label_tables import label_counts
from lasttoken.evaluation.baselines import Baseline
from lasttoken.evaluation.decision_flags import Target, parse_targets
from lasttoken.evaluation.diagnosis import UNEVEN, Remedies, diagnose
from lasttoken.evaluation.intervals import share_right
from lasttoken.evaluation.slices import Slice, length_quarters, slice_accuracy
from lasttoken.evaluation.targets import Reached, TargetResult
from lasttoken.evaluation.thresholds import likely_threshold
from lasttoken.evaluation.verdict import Verdict, judge
from lasttoken.runs.calibration import Calibrated, gpt_alone, temperature_effect
from lasttoken.runs.scored import Scored, score_split
from lasttoken.training.loop import TrainingOutcome
from lasttoken.training.prepare import Prepared
from lasttoken.training.split_features import SplitFeatures

TIMED_TEXTS = 64  # of the headline split, classified as `predict` classifies them


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
    ngrams: dict[str, Any] | None = None  # the entry of metrics.json; None: n-grams were not asked for

    @property
    def on_headline(self) -> Scored:
        """The classifier on the headline split."""
        return self.scored[self.headline]


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
    values = scored.metrics.per_label[target.label_id]
    if target.metric == "recall":
        return Reached(values.recall, values.recall_ci95, values.n)
    n_predicted = int(scored.task.has_label(scored.predicted, target.label_id).sum())
    return Reached(values.precision, values.precision_ci95, n_predicted)


def judge_training(
    prepared: Prepared,
    features: Mapping[str, SplitFeatures],
    calibrated: Calibrated,
    outcome: TrainingOutcome,
    baselines: Mapping[str, Baseline],
    audited: Audit,
    settings: Settings,
) -> Judged:
    """Compute all results of a training; `audited` is the audit of its splits."""
    leaked, logits = audited.leaked_rows(), calibrated.logits
    scored = {
        name: score_split(prepared.classifier.config, split.truth, logits[name], intervals=name != "train")
        for name, split in features.items()
    }
    headline = prepared.splits.headline
    scored_headline = scored[headline]
    majority = baselines["majority"].metrics.get(headline) if "majority" in baselines else None
    return Judged(
        headline,
        scored,
        dict(baselines),
        _verdict(prepared, scored_headline, baselines, headline, audited.split_rows()[headline]),
        {
            "temperature": prepared.classifier.config.temperature,
            "split": headline,
            **temperature_effect(scored_headline, logits[headline]),
        },
        {name: share_right(scored[name].correct[~rows]) for name, rows in leaked.items()},
        slice_accuracy(
            scored_headline.correct, _keys(prepared, scored_headline, headline, leaked.get(headline), settings.slice_by)
        ),
        diagnose(
            scored_headline.task,
            # n-grams fit the rows of train nearly perfectly, which says nothing about the GPT or the number of rows
            {n: split.metrics for n, split in scored.items() if n != "train" or not prepared.classifier.config.blend},
            headline,
            scored_headline.task.n_given(scored_headline.predicted),
            outcome.history,
            majority,
            _remedies(prepared, scored["validation"], settings),
        ),
        audited,
        _target_results(prepared, scored, settings.threshold),
        _ngrams(prepared, calibrated, features),
    )


def _ngrams(prepared: Prepared, calibrated: Calibrated, features: Mapping[str, SplitFeatures]) -> dict[str, Any] | None:
    if calibrated.ngrams is None:
        return None
    alone = {"gpt_alone": gpt_alone(prepared, calibrated, features)} if calibrated.ngrams.blend else {}
    return {**calibrated.ngrams.record, **alone}


def _remedies(prepared: Prepared, held_out: Scored, settings: Settings) -> Remedies:
    """The advice for a classifier that predicts one label for every text: flags with values that have an effect."""
    rate, epochs = settings.learning_rate or 0.0, settings.epochs or 0
    counts = label_counts(prepared.splits.train)
    rare = held_out.task.dominated_label(counts, UNEVEN)
    if rare is None or settings.threshold or settings.cost or any(character in rare for character in ",=@"):
        return Remedies(rate, epochs)
    probs = np.exp(held_out.log_probs[:, prepared.labels.index(rare)].astype(np.float64))
    threshold = likely_threshold(held_out.task.has_label(held_out.truth, prepared.labels.index(rare)), probs)
    return Remedies(rate, epochs, rare, counts[rare], sum(counts.values()), threshold)


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
        contents=blend.in_words() if (blend := prepared.classifier.config.blend) else None,
    )


def _seconds_per_text(prepared: Prepared, split: str) -> float:
    texts = prepared.splits.named()[split].texts[:TIMED_TEXTS]
    started = time.perf_counter()
    prepared.predictor.predict(texts)
    return (time.perf_counter() - started) / len(texts)


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
