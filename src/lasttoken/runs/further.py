"""The trainings beside the run's own, on the same features: other seeds, folds, and parts of train.

The arithmetic of each is in repeats.py; here are the order, the progress bar and the signals.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.process import stop_on_signal
from lasttoken.core.progress import Reporter
from lasttoken.evaluation.baselines import baseline_names
from lasttoken.runs.assess import Judged
from lasttoken.runs.repeats import SIZES, run_folds, run_learning_curve, run_seeds
from lasttoken.runs.session import Session
from lasttoken.training.repeater import Repeater

FALLBACK_BASELINE = "tfidf-logreg"  # of the learning curve, where the best baseline is not trained on rows


def run_further_trainings(repeater: Repeater, session: Session, judged: Judged, reporter: Reporter) -> dict[str, Any]:
    """Train by other seeds, on folds, or on parts of train, as the settings ask; the entries for metrics.json.

    A signal ends them, and the run is complete without the unfinished ones.
    """
    settings, headline = session.settings, judged.headline
    repeats: dict[str, Any] = {}
    n_trainings = settings.seeds - 1 + settings.folds + len(SIZES) * settings.learning_curve
    with stop_on_signal() as should_stop, reporter.bar("further trainings", n_trainings) as advance:

        def done(n: int) -> None:
            if should_stop():
                raise KeyboardInterrupt
            advance(n, "")

        try:
            if settings.seeds > 1:
                first = judged.on_headline.metrics
                repeats["seeds"] = run_seeds(repeater, settings, headline, first, done, should_stop)
            if settings.folds:
                repeats["folds"] = run_folds(repeater, settings, done, should_stop)
            if settings.learning_curve:
                name, whole = _whole_train(judged)
                repeats["learning_curve"] = run_learning_curve(
                    repeater, settings, headline, name, whole, done, should_stop
                )
        except KeyboardInterrupt:
            reporter.say("interrupted: the run is complete, but without further trainings")
    return repeats


def _whole_train(judged: Judged) -> tuple[str, tuple[NDArray[np.bool_], NDArray[np.bool_] | None]]:
    """The baseline of the learning curve, and which rows the run's classifier and that baseline predict correctly.

    A prediction is the most probable label, as for all points of the curve, whatever the decision rule.
    """
    headline = judged.on_headline
    name = judged.verdict.baseline if judged.verdict else FALLBACK_BASELINE
    name = name if name in baseline_names() else FALLBACK_BASELINE
    theirs = judged.baselines[name].predicted.get(judged.headline)
    ours = np.asarray(headline.log_probs.argmax(1) == headline.truth)
    return name, (ours, None if theirs is None else np.asarray(theirs == headline.truth))
