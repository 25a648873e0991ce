"""A finished training, judged: calibrated, scored on every split, held against the baselines, and looked through.

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

from lasttoken.ask import ask, parse_answers
from lasttoken.config import Settings
from lasttoken.data.audit import Audit
from lasttoken.decision import AUTO, best_threshold, parse_decision
from lasttoken.errors import SettingsError, one_of
from lasttoken.evaluation.baselines import Baseline
from lasttoken.evaluation.calibration import fit_temperature, reliability_bins
from lasttoken.evaluation.diagnosis import diagnose
from lasttoken.evaluation.intervals import share_right
from lasttoken.evaluation.metrics import Metrics, compute_metrics
from lasttoken.evaluation.slices import Slice, length_quarters, slice_accuracy
from lasttoken.evaluation.verdict import Verdict, judge
from lasttoken.model.pretrained import load_backbone
from lasttoken.predict import log_softmax
from lasttoken.training.loop import Outcome, Split, tail_logits
from lasttoken.training.prepare import Prepared

TIMED_TEXTS = 64  # of the headline split, classified one batch after another as `predict` does
CALIBRATED = ("ece", "brier", "loss")  # what a temperature changes

Logits = dict[str, NDArray[np.float32]]  # [N, K] by split


@dataclass(frozen=True)
class Scored:
    """The classifier on one split."""

    label_ids: NDArray[np.int64]  # [N], the truth
    log_probs: NDArray[np.float32]  # [N, K], calibrated
    predicted: NDArray[np.int64]  # [N], by the classifier's decision rule
    answered: NDArray[np.bool_]  # [N], whether it is sure enough to answer
    metrics: Metrics

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which rows [N] are right."""
        return self.metrics.correct


@dataclass(frozen=True)
class Judged:
    """What was found out about a finished training."""

    headline: str  # the split that the figures are told of: test, or validation where there is no test
    scored: dict[str, Scored]
    baselines: dict[str, Baseline]
    verdict: Verdict | None
    calibration: dict[str, Any] | None
    unleaked: dict[str, dict[str, Any]]  # accuracy on the rows that have no text like them in train
    slices: list[Slice]
    warnings: list[str]
    audit: Audit

    @property
    def told(self) -> Scored:
        """The classifier on the headline split."""
        return self.scored[self.headline]


def settle(prepared: Prepared, features: Mapping[str, Split], settings: Settings) -> Logits:
    """Fit the temperature and the decision rule on validation, for the classifier to keep; the logits of all splits."""
    classifier = prepared.classifier
    logits = {
        name: tail_logits(classifier, split.source, prepared.predictor.machine) for name, split in features.items()
    }
    held_out, truth = logits["validation"], features["validation"].label_ids
    temperature = fit_temperature(held_out, truth) if settings.calibrate else 1.0
    decision = parse_decision(settings.threshold, settings.cost, prepared.labels)
    if settings.threshold == AUTO:
        decision = best_threshold(log_softmax(held_out, temperature), truth)
    classifier.config = replace(classifier.config, temperature=temperature, decision=decision)
    return logits


def judge_training(
    prepared: Prepared,
    features: Mapping[str, Split],
    logits: Logits,
    outcome: Outcome,
    baselines: Mapping[str, Baseline],
    looked: Audit,
    slice_by: str | None = None,
) -> Judged:
    """Everything that is told of a training.

    `looked` is the audit of its splits; `slice_by` names the column that the examples' slices come from.
    """
    leaked = looked.leaked_rows()
    scored = {name: _score(prepared, split.label_ids, logits[name], name) for name, split in features.items()}
    headline = "test" if "test" in scored else "validation"
    told = scored[headline]
    majority = baselines["majority"].metrics.get(headline) if "majority" in baselines else None
    return Judged(
        headline,
        scored,
        dict(baselines),
        _verdict(prepared, told, baselines, headline, looked.split_rows()[headline]),
        _calibration(prepared, told, logits[headline], headline),
        {name: share_right(scored[name].correct[~rows]) for name, rows in leaked.items()},
        slice_accuracy(told.correct, _keys(prepared, told, headline, leaked.get(headline), slice_by)),
        diagnose(
            {name: one.metrics for name, one in scored.items()},
            headline,
            len(np.unique(told.predicted)),
            outcome.history,
            majority.accuracy if majority else None,
        ),
        looked,
    )


def _score(prepared: Prepared, label_ids: NDArray[np.int64], logits: NDArray[np.float32], split: str) -> Scored:
    config = prepared.classifier.config
    log_probs = log_softmax(logits, config.temperature)
    predicted = config.decision.decide(log_probs)
    metrics = compute_metrics(
        label_ids, prepared.labels, log_probs=log_probs, predicted_ids=predicted, intervals=split != "train"
    )
    return Scored(label_ids, log_probs, predicted, config.decision.answers(log_probs), metrics)


def check_judging(settings: Settings, labels: Sequence[str]) -> None:
    """Refuse, before anything is trained, rules and answers that do not fit the labels.

    Raises:
        SettingsError: see `parse_decision` and `parse_answers`; or answers of other labels.
    """
    parse_decision(settings.threshold, settings.cost, labels)
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
    note = "ask: the bare backbone's answer of the larger probability to chapter 6's question, without any training"
    return {"ask": Baseline({split: found.scored}, {split: predicted}, 0.0, seconds, note)}


def _verdict(
    prepared: Prepared, told: Scored, baselines: Mapping[str, Baseline], headline: str, groups: NDArray[np.intp]
) -> Verdict | None:
    there = {name: one for name, one in baselines.items() if headline in one.predicted}
    seconds = {name: one.predict_s / sum(map(len, one.predicted.values())) for name, one in there.items()}
    seconds["ours"] = _seconds_per_text(prepared, headline)
    predicted = {name: one.predicted[headline] for name, one in there.items()}
    return judge(told.label_ids, told.predicted, predicted, seconds_per_row=seconds, groups=groups)


def _seconds_per_text(prepared: Prepared, split: str) -> float:
    texts = prepared.splits.named()[split].texts[:TIMED_TEXTS]
    started = time.perf_counter()
    prepared.predictor.predict(texts)
    return (time.perf_counter() - started) / len(texts)


def _calibration(prepared: Prepared, told: Scored, logits: NDArray[np.float32], split: str) -> dict[str, Any] | None:
    """What the temperature did on rows that it was not fitted on (on validation it was, where there is no test)."""
    temperature = prepared.classifier.config.temperature
    raw = log_softmax(logits)
    before = compute_metrics(
        told.label_ids, prepared.labels, log_probs=raw, predicted_ids=raw.argmax(1), intervals=True
    )
    return {
        "temperature": temperature,
        "split": split,
        "before": _probability_figures(before),
        "after": _probability_figures(told.metrics),
        "bins_before": [one.to_json() for one in reliability_bins(raw, told.label_ids)],
        "bins_after": [one.to_json() for one in reliability_bins(told.log_probs, told.label_ids)],
    }


def _probability_figures(metrics: Metrics) -> dict[str, Any]:
    content = metrics.to_json()
    names = [name for figure in CALIBRATED for name in (figure, f"{figure}_ci95")]
    return {name: content[name] for name in names if name in content}


def _keys(
    prepared: Prepared, told: Scored, split: str, leaked: NDArray[np.bool_] | None, slice_by: str | None
) -> dict[str, Sequence[str]]:
    examples = prepared.splits.named()[split]
    keys: dict[str, Sequence[str]] = {
        "label": [prepared.labels[label_id] for label_id in told.label_ids],
        "length": length_quarters(examples.texts),
    }
    if leaked is not None and leaked.any():
        keys["near train"] = ["a text like it is in train" if one else "no text like it is in train" for one in leaked]
    if examples.slices is not None:
        keys[slice_by or "slice"] = examples.slices
    return keys
