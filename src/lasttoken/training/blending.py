"""The weight of an n-gram model in a classifier, fitted on held-out rows; the test split is never read.

    train ─► n-grams ─► their logits of held-out rows ─┐
             GPT     ─► its logits of the same rows ───┴─► weighted sum ─► loss at the best temperature, by weight

The n-gram models are those of the baselines. The GPT's logits are divided by its own temperature first, so that both
have comparable scales. The sum is kept if its loss is below that of the GPT by more than a standard error of the rows'
differences; otherwise the classifier stays a GPT. Where rows were held out in folds, the n-gram model is fitted to the
same parts as the classifier's head, and at the end to all rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.classifier.ngrams import KINDS, Blend, Kind, NgramModel
from lasttoken.core.config import Settings
from lasttoken.evaluation.baselines import BASELINES, FitInput, LabelledTexts, LinearBaseline
from lasttoken.evaluation.calibration import FEWEST_ROWS
from lasttoken.evaluation.linear_models import CannotFitError
from lasttoken.evaluation.tasks.task import Task, Truth
from lasttoken.training.balance import prior_shift
from lasttoken.training.held_out import calibrated_losses, mean_and_error, score_of
from lasttoken.training.loop import HeldOut

BASELINE_OF: dict[Kind, str] = {"words": "tfidf-logreg", "characters": "char-ngrams"}
WEIGHTS = np.arange(1, 10) / 10  # that are tried first; then the two beside the best
HALF_STEP = 0.05
MOST_ROWS = 20_000  # that the weight is fitted to

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class BlendRows:
    """The rows of a training, and what its GPT gave for those that were held out."""

    task: Task
    train: LabelledTexts
    validation: LabelledTexts
    validation_logits: Logits  # of the GPT
    held_out: HeldOut | None  # where rows of train and validation were held out in folds
    label_counts: NDArray[np.int64] | None = None  # [K], rows of each label before undersampling

    @property
    def logits(self) -> Logits:
        """The GPT's logits [M, K] of the held-out rows."""
        return self.validation_logits if self.held_out is None else self.held_out.logits

    @property
    def truth(self) -> Truth:
        """The truth of the held-out rows."""
        return self.validation.truth if self.held_out is None else self.held_out.truth

    @property
    def together(self) -> LabelledTexts:
        """All rows of train and validation."""
        truth: Truth = np.concatenate((self.train.truth, self.validation.truth))  # type: ignore[assignment]
        return LabelledTexts([*self.train.texts, *self.validation.texts], truth)

    @property
    def shift(self) -> NDArray[np.float32] | float:
        """What undersampling adds to the scores of models that were fitted to it."""
        return 0.0 if self.label_counts is None else prior_shift(self.label_counts)


@dataclass(frozen=True)
class BlendFit:
    """The n-gram model that a classifier contains from now on, or none; and how it was chosen."""

    blend: Blend | None
    model: NgramModel | None
    held_out: Logits | None  # of the n-grams for the held-out rows, [M, K]
    record: dict[str, Any]  # for metrics.json
    fitted: dict[str, LinearBaseline] = field(default_factory=dict)  # to all rows that were fitted, by baseline

    def applied(
        self, gpt: Mapping[str, Logits], texts: Mapping[str, Sequence[str]], rows: BlendRows
    ) -> tuple[dict[str, Logits], Logits]:
        """The classifier's logits [N, K] of splits and of the held-out rows, from those of the GPT.

        Rows of validation that were held out in folds have the logits of the n-gram model that was not fitted to them.
        """
        if self.blend is None or self.model is None or self.held_out is None:
            return dict(gpt), rows.logits
        logits = {name: self.blend.combine(each, self.model.logits(texts[name])) for name, each in gpt.items()}
        held_out = self.blend.combine(rows.logits, self.held_out)
        if rows.held_out is not None and "validation" in logits:
            scored = np.concatenate([part.scored for part in rows.held_out.parts])
            logits["validation"][rows.held_out.validation_rows] = held_out[scored >= len(rows.train.texts)]
        return logits, held_out


@dataclass(frozen=True)
class _Candidate:
    """One kind of n-grams at its best weight."""

    kind: Kind
    weight: float
    ngrams: Logits  # of the held-out rows
    losses: NDArray[np.float64]  # of the sum, [M]


def fit_blend(rows: BlendRows, settings: Settings) -> BlendFit:
    """Fit n-gram models and the weight of each kind that `settings.ngrams` allows; keep the best one if it helps."""
    started = time.monotonic()
    kinds = KINDS if settings.ngrams == "auto" else (settings.ngrams,)
    fitted: dict[str, LinearBaseline] = {}
    if len(rows.truth) < FEWEST_ROWS:
        return _unkept(f"{len(rows.truth)} held-out rows are too few to fit a weight to", fitted)
    temperature = rows.task.fit_temperature(rows.logits, rows.truth) if settings.calibrate else 1.0
    candidates = []
    try:
        for kind in kinds:
            ngrams = _held_out_logits(kind, rows, settings.seed, fitted)  # type: ignore[arg-type]
            candidates.append(_at_best_weight(kind, ngrams, rows, temperature))  # type: ignore[arg-type]
    except CannotFitError as reason:
        return _unkept(f"n-grams cannot be fitted: {reason}", fitted)
    best = min(candidates, key=lambda candidate: float(candidate.losses.mean()))
    record, is_kept = _record(rows, settings, candidates, best, temperature)
    blend = model = None
    if is_kept:
        blend = Blend(best.kind, best.weight, temperature)
        name = BASELINE_OF[best.kind]
        if rows.held_out is not None:
            fitted[name] = _fit(best.kind, rows.task, rows.together, None, settings.seed)
        model = NgramModel.of(fitted[name], rows.shift)
        record["in_words"] = blend.in_words()
    record["seconds"] = round(time.monotonic() - started, 3)
    return BlendFit(blend, model, best.ngrams, record, fitted)


def _unkept(reason: str, fitted: dict[str, LinearBaseline]) -> BlendFit:
    return BlendFit(None, None, None, {"kept": False, "reason": reason}, fitted)


def _fit(kind: Kind, task: Task, train: LabelledTexts, validation: LabelledTexts | None, seed: int) -> LinearBaseline:
    fit = BASELINES[BASELINE_OF[kind]].fit
    assert fit is not None
    model = fit(FitInput(task, train, validation, seed))
    assert isinstance(model, LinearBaseline)
    return model


def _held_out_logits(kind: Kind, rows: BlendRows, seed: int, fitted: dict[str, LinearBaseline]) -> Logits:
    """The n-grams' logits of the held-out rows; a model that was fitted to all of train is added to `fitted`."""
    if rows.held_out is None:
        fitted[BASELINE_OF[kind]] = model = _fit(kind, rows.task, rows.train, rows.validation, seed)
        return NgramModel.of(model, rows.shift).logits(rows.validation.texts)
    together, logits = rows.together, []
    for part in rows.held_out.parts:
        texts = [together.texts[row] for row in part.fitted.tolist()]
        model = _fit(kind, rows.task, LabelledTexts(texts, together.truth[part.fitted]), None, seed)
        scored = [together.texts[row] for row in part.scored.tolist()]
        logits.append(NgramModel.of(model, rows.shift).logits(scored))
    return np.concatenate(logits)


def _at_best_weight(kind: Kind, ngrams: Logits, rows: BlendRows, temperature: float) -> _Candidate:
    """The weight with the smallest loss on evenly spaced held-out rows."""
    taken = np.unique(np.linspace(0, len(ngrams) - 1, min(len(ngrams), MOST_ROWS)).astype(np.int64))

    def losses_at(weight: float, places: NDArray[np.int64] | slice) -> NDArray[np.float64]:
        blend = Blend(kind, weight, temperature)
        return calibrated_losses(rows.task, blend.combine(rows.logits[places], ngrams[places]), rows.truth[places])

    loss = {float(weight): float(losses_at(float(weight), taken).mean()) for weight in WEIGHTS}
    coarse = min(loss, key=loss.__getitem__)
    for weight in (coarse - HALF_STEP, coarse + HALF_STEP):
        loss[round(weight, 2)] = float(losses_at(round(weight, 2), taken).mean())
    best = min(loss, key=loss.__getitem__)
    return _Candidate(kind, best, ngrams, losses_at(best, slice(None)))


def _record(
    rows: BlendRows, settings: Settings, candidates: Sequence[_Candidate], best: _Candidate, temperature: float
) -> tuple[dict[str, Any], bool]:
    """What metrics.json says about the choice, and whether the best candidate is kept."""
    metric = settings.metric
    fall, error = mean_and_error(calibrated_losses(rows.task, rows.logits, rows.truth) - best.losses)
    is_kept = fall > error

    def scored(logits: Logits) -> dict[str, float]:
        return {
            name: (score.loss if name == "loss" else score.value)
            for name in dict.fromkeys((rows.task.headline, metric, "loss"))
            if (score := score_of(rows.task, logits, rows.truth, name))
        }

    def together(candidate: _Candidate) -> dict[str, float]:
        return scored(Blend(candidate.kind, candidate.weight, temperature).combine(rows.logits, candidate.ngrams))

    record = {
        "kept": is_kept,
        "kind": best.kind,
        "weight": best.weight,
        "held_out": "validation" if rows.held_out is None else "folds of train and validation",
        "n": len(rows.truth),
        "gpt": scored(rows.logits),
        "ngrams": scored(best.ngrams),
        "together": together(best),
        "loss_fall": fall,
        "standard_error": error,
        "candidates": [
            {"kind": each.kind, "weight": each.weight, "ngrams": scored(each.ngrams), "together": together(each)}
            for each in candidates
        ],
    }
    return record, is_kept


def in_words(record: Mapping[str, Any]) -> str:
    """What was found, in a sentence.

    >>> in_words({"kept": False, "reason": "8 held-out rows are too few to fit a weight to"})
    'no n-grams in the classifier: 8 held-out rows are too few to fit a weight to'
    """
    if "gpt" not in record:
        return f"no n-grams in the classifier: {record['reason']}"
    gpt, ngrams, together = (record[name]["loss"] for name in ("gpt", "ngrams", "together"))
    kind = record["kind"].removesuffix("s")
    losses = f"loss of the GPT {gpt:.3f}, of {kind} n-grams {ngrams:.3f}, together {together:.3f}"
    where = f"on {record['n']:,} rows of {record['held_out']}"
    if record["kept"]:
        return f"the classifier is {record['in_words']} ({where}: {losses})"
    return (
        f"no n-grams in the classifier: together the loss falls by {record['loss_fall']:.4f}, with a standard error "
        f"of {record['standard_error']:.4f} ({where}: {losses})"
    )
