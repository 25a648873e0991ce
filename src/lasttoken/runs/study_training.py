"""One training of a study: from a session and its features to what the study keeps of it.

A row that leaves method, depth or pooling open is chosen once, with the first seed, as `lasttoken train --seeds` does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lasttoken.core.config import Settings
from lasttoken.core.device import Device
from lasttoken.core.progress import Reporter
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs.calibration import calibrate
from lasttoken.runs.choice import Plan, plan_training
from lasttoken.runs.fitting import Fitted, choose_fitted, fit_beside, start_training
from lasttoken.runs.scored import score_split
from lasttoken.runs.session import Session, open_session
from lasttoken.runs.study_dir import TrainingResult
from lasttoken.training.linear_training import LinearTraining
from lasttoken.training.loop import Hooks, Trainer, TrainingOutcome
from lasttoken.training.methods import Training
from lasttoken.training.split_features import SplitFeatures

CHOSEN_SETTINGS = ("method", "depth", "read", "train_blocks")

Features = dict[str, SplitFeatures]


def train_row(
    session: Session, features: Features, label_words: float | None, trunk_s: float, title: str, reporter: Reporter
) -> TrainingResult:
    """Train a session whose settings leave nothing open. `label_words`: see `Plan`.

    Raises:
        DivergedError: a loss is not finite.
    """
    started, settings = time.perf_counter(), session.settings
    is_linear = settings.method == "linear"
    plan = Plan(settings, settings if is_linear else None, None if is_linear else settings, label_words=label_words)
    sizes = _sizes(session)
    outcome = _run(start_training(plan, session, features), title, reporter)
    return _result(session, features, outcome, sizes, (started, trunk_s))


def train_open_row(
    splits: Splits, settings: Settings, device: Device, offline: bool, title: str, reporter: Reporter
) -> TrainingResult:
    """Train with settings that leave something open; the result has what was chosen.

    Raises:
        DivergedError: a loss is not finite.
    """
    started = time.perf_counter()
    with reporter.working(f"{title}: comparing depths and poolings"):
        plan = plan_training(splits, settings, device, offline=offline)
        session = open_session(splits, plan.main, device, offline=offline)
    before = time.perf_counter()
    features = session.features(reporter, plan.features)
    trunk_s = time.perf_counter() - before
    beside = fit_beside(plan, session, features, offline=offline) if plan.tail and plan.linear else None
    sizes, before = _sizes(session), time.monotonic()
    outcome = _run(start_training(plan, session, features), title, reporter)
    fitted = choose_fitted(plan, Fitted(session, features, outcome, None), beside, time.monotonic() - before)
    if fitted.session is not session:
        sizes = _sizes(fitted.session)
    result = _result(fitted.session, fitted.features, fitted.outcome, sizes, (started + trunk_s, trunk_s))
    chosen = {name: getattr(fitted.session.settings, name) for name in CHOSEN_SETTINGS}
    return replace(
        result,
        choice={
            "settings": {name: value for name, value in chosen.items() if value is not None},
            "label_words": plan.label_words if chosen["method"] == "linear" else None,
            "sentence": fitted.choice_in_words(),
        },
    )


def chosen_settings(asked: Settings, choice: Mapping[str, Any]) -> Settings:
    """The settings of a row with what its first training chose."""
    return replace(asked, **choice["settings"])


def _sizes(session: Session) -> tuple[int, int]:
    """The numbers that training changes, and all."""
    classifier = session.prepared.classifier
    return classifier.n_trained(), classifier.n_parameters()


def _run(training: Training, title: str, reporter: Reporter) -> TrainingOutcome:
    if isinstance(training, LinearTraining):
        with reporter.working(title):
            return training.run()
    if isinstance(training, Trainer):
        training.skip_evaluations()
    with reporter.bar(title, training.total_steps) as advance:
        training.hooks = Hooks(on_step=lambda state: advance(1, ""))
        return training.run()


def _result(
    session: Session,
    features: Features,
    outcome: TrainingOutcome,
    sizes: tuple[int, int],
    clock: tuple[float, float],
) -> TrainingResult:
    """Evaluate a training on the splits that a study reports. `clock`: when it started, seconds of its trunk."""
    prepared, (started, trunk_s) = session.prepared, clock
    prepared.classifier.requires_grad_(False).eval().zero_grad(set_to_none=True)
    headline = prepared.splits.headline
    calibrated = calibrate(prepared, features, session.settings, outcome, scored=("validation", headline))
    config = prepared.classifier.config
    scored = {
        name: score_split(config, features[name].truth, calibrated.logits[name], intervals=name == headline)
        for name in dict.fromkeys(("validation", headline))
    }
    on_headline = scored[headline]
    metrics = on_headline.metrics.to_json()
    return TrainingResult(
        metrics={name: value for name, value in metrics.items() if _is_metric(value)},
        validation={name: value for name, value in scored["validation"].metrics.to_json().items() if _is_metric(value)},
        trained=sizes[0],
        total=sizes[1],
        seconds=time.perf_counter() - started,
        trunk_s=trunk_s,
        kept_step=outcome.kept_step,
        stopped=outcome.stopped,
        values=config.task.row_values(on_headline.truth, on_headline.predicted),
        losses=config.task.row_losses(on_headline.log_probs, on_headline.truth),
        predicted=np.asarray(on_headline.predicted),
    )


def _is_metric(value: Any) -> bool:
    """Whether an entry of a split's metrics is a number or an interval, and not a table."""
    is_interval = isinstance(value, list) and len(value) == 2 and all(isinstance(bound, float) for bound in value)
    return is_interval or (isinstance(value, int | float) and not isinstance(value, bool))
