"""The weight of n-grams is fitted on held-out rows, and n-grams are kept only where they help beyond chance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from miniature import messages
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from lasttoken.core.config import Settings
from lasttoken.evaluation.baselines import BASELINES, FitInput, LabelledTexts
from lasttoken.evaluation.tasks.choice import task_of
from lasttoken.training import blending
from lasttoken.training.blending import BlendRows, fit_blend, in_words
from lasttoken.training.held_out import Part, calibrated_losses
from lasttoken.training.loop import HeldOut

TASK = task_of(("ham", "spam"), None)
AUTO = replace(Settings(), ngrams="auto")


def labelled(first: int, n: int) -> LabelledTexts:
    texts, labels = messages(first + n)
    return LabelledTexts(texts[first:], np.array([label == "spam" for label in labels[first:]], dtype=np.int64))


def noisy(rows: LabelledTexts, seed: int = 1) -> LabelledTexts:
    """Every fourth label is another, so that no classifier is perfect."""
    truth = np.where(np.arange(len(rows.truth)) % 4 == seed, 1 - rows.truth, rows.truth)
    return LabelledTexts(rows.texts, truth.astype(np.int64))


def logits_for(truth: NDArray[Any], strength: float, noise: float, seed: int = 3) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed).normal(0, noise, (len(truth), 2))
    return np.asarray(drawn + strength * np.eye(2)[truth.astype(int)], dtype=np.float32)


def rows_of(gpt: NDArray[np.float32], train: LabelledTexts, validation: LabelledTexts) -> BlendRows:
    return BlendRows(TASK, train, validation, gpt, None)


def test_n_grams_are_added_where_they_know_more_and_the_weight_has_the_smallest_loss() -> None:
    validation = noisy(labelled(80, 120))
    rows = rows_of(logits_for(validation.truth, 1.0, 1.0), labelled(0, 80), validation)
    fit = fit_blend(rows, AUTO)
    assert fit.blend is not None
    assert fit.held_out is not None
    assert fit.record["together"]["loss"] < min(fit.record["gpt"]["loss"], fit.record["ngrams"]["loss"])
    assert set(fit.fitted) == {"tfidf-logreg", "char-ngrams"}, "the baselines of the report are not fitted again"
    gpt, ngrams, truth = rows.logits / fit.blend.gpt_temperature, fit.held_out, np.asarray(validation.truth)

    def loss(weight: float) -> float:
        """By scipy: the smallest loss over temperatures."""
        mixed = (1 - weight) * gpt + weight * ngrams
        losses = minimize_scalar(
            lambda log_t: -log_softmax(mixed / np.exp(log_t), axis=1)[np.arange(len(truth)), truth].mean(),
            bounds=(-3, 3),
            method="bounded",
        )
        return float(losses.fun)

    grid = [round(float(weight), 2) for weight in np.arange(1, 20) / 20]
    best = min(loss(weight) for weight in grid)
    assert loss(fit.blend.weight) == pytest.approx(best, abs=1e-4)
    assert "GPT and" in in_words(fit.record)


def test_a_classifier_that_knows_all_of_it_stays_a_gpt() -> None:
    validation = noisy(labelled(80, 120))
    fit = fit_blend(rows_of(logits_for(validation.truth, 6.0, 1.0), labelled(0, 80), validation), AUTO)
    assert fit.blend is None
    assert fit.model is None
    assert fit.record["kept"] is False
    assert fit.record["loss_fall"] <= fit.record["standard_error"]
    assert "no n-grams" in in_words(fit.record)


def test_a_gain_within_a_standard_error_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    validation = noisy(labelled(80, 120))
    rows = rows_of(logits_for(validation.truth, 1.0, 1.0), labelled(0, 80), validation)
    record = fit_blend(rows, AUTO).record
    assert record["kept"]
    losses, n = calibrated_losses, len(validation.truth)
    spread = np.where(np.arange(n) % 2, 1.0, -1.0) * 2 * record["loss_fall"] * np.sqrt(n)

    def spread_out(task: Any, logits: NDArray[np.float32], truth: Any) -> NDArray[np.float64]:
        return losses(task, logits, truth) + (spread if logits is rows.logits else 0.0)

    monkeypatch.setattr(blending, "calibrated_losses", spread_out)
    wide = fit_blend(rows, AUTO).record
    assert wide["loss_fall"] == pytest.approx(record["loss_fall"])
    assert not wide["kept"]


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_a_kind_that_is_asked_for_is_the_only_one_that_is_tried(kind: str) -> None:
    validation = noisy(labelled(80, 120))
    fit = fit_blend(
        rows_of(logits_for(validation.truth, 1.0, 1.0), labelled(0, 80), validation), replace(AUTO, ngrams=kind)
    )
    assert [candidate["kind"] for candidate in fit.record["candidates"]] == [kind]


def test_too_few_rows_and_rows_of_one_label_give_a_reason() -> None:
    few = labelled(80, 8)
    fit = fit_blend(rows_of(logits_for(few.truth, 1.0, 1.0), labelled(0, 80), few), AUTO)
    assert "8" in fit.record["reason"]
    one = LabelledTexts(labelled(0, 40).texts, np.zeros(40, dtype=np.int64))
    validation = labelled(40, 40)
    fit = fit_blend(rows_of(logits_for(validation.truth, 1.0, 1.0), one, validation), AUTO)
    assert "label" in fit.record["reason"]
    assert fit.blend is None


def folded() -> tuple[BlendRows, NDArray[np.int64]]:
    """80 rows of train and 40 of validation, held out in three folds."""
    train, validation = noisy(labelled(0, 80)), noisy(labelled(80, 40))
    everything = np.arange(120)
    parts = tuple(Part(everything[everything % 3 != at], everything[everything % 3 == at]) for at in range(3))
    scored = np.concatenate([part.scored for part in parts])
    truth = np.concatenate((train.truth, validation.truth))[scored]
    gpt = logits_for(truth, 1.0, 1.0)
    is_validation = scored >= 80
    held_out = HeldOut(gpt, truth, scored[is_validation] - 80, gpt[is_validation], parts)
    of_validation = np.empty((40, 2), dtype=np.float32)
    of_validation[scored[is_validation] - 80] = gpt[is_validation]
    return BlendRows(TASK, train, validation, of_validation, held_out), scored


def test_in_folds_no_n_gram_model_scores_a_row_that_it_was_fitted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = folded()
    seen: list[set[str]] = []
    fit_model = BASELINES["tfidf-logreg"].fit
    assert fit_model is not None

    def spied(fit_input: FitInput) -> Any:
        seen.append(set(fit_input.train.texts))
        return fit_model(fit_input)

    entry = replace(BASELINES["tfidf-logreg"], fit=spied)
    monkeypatch.setattr(blending, "BASELINES", {"tfidf-logreg": entry})
    fit = fit_blend(rows, replace(AUTO, ngrams="words"))
    assert fit.blend is not None
    assert rows.held_out is not None
    texts = rows.together.texts
    for part, fitted_texts in zip(rows.held_out.parts, seen[:3], strict=True):
        assert fitted_texts == {texts[row] for row in part.fitted}
        assert not fitted_texts & {texts[row] for row in part.scored}
    assert seen[3:] == [set(texts)], "the model that is kept is fitted to all rows"
    assert fit.record["held_out"] == "folds of train and validation"


def test_in_folds_validation_gets_held_out_logits_and_other_splits_those_of_the_final_model() -> None:
    rows, scored = folded()
    fit = fit_blend(rows, replace(AUTO, ngrams="words"))
    assert fit.blend is not None
    assert fit.model is not None
    assert fit.held_out is not None
    gpt = {"validation": rows.validation_logits, "test": np.zeros((2, 2), dtype=np.float32)}
    logits, held_out = fit.applied(gpt, {"validation": rows.validation.texts, "test": ["WIN", "keys"]}, rows)
    np.testing.assert_allclose(held_out, fit.blend.combine(rows.logits, fit.held_out))
    for place, row in enumerate(scored.tolist()):
        if row >= 80:
            np.testing.assert_array_equal(logits["validation"][row - 80], held_out[place])
    np.testing.assert_array_equal(logits["test"], fit.blend.combine(gpt["test"], fit.model.logits(["WIN", "keys"])))


def test_several_labels_are_blended_by_their_log_odds() -> None:
    task = task_of(("a", "b"), "|")
    train, validation = labelled(0, 80), labelled(80, 120)

    def several(rows: LabelledTexts) -> NDArray[np.bool_]:
        return np.stack([rows.truth > 0, np.array(["7" in text for text in rows.texts])], axis=1)

    gpt = np.random.default_rng(5).normal(0, 1, (120, 2)).astype(np.float32)
    fit = fit_blend(
        BlendRows(
            task,
            LabelledTexts(train.texts, several(train)),
            LabelledTexts(validation.texts, several(validation)),
            gpt,
            None,
        ),
        AUTO,
    )
    assert fit.blend is not None
    assert fit.record["together"]["micro_f1"] > fit.record["gpt"]["micro_f1"]
    assert fit.model is not None
    assert fit.model.terms.link == "sigmoid"


def test_undersampled_rows_are_shifted_to_the_labels_frequencies() -> None:
    counts = np.array([300, 100])
    rows = replace(rows_of(np.zeros((0, 2), np.float32), labelled(0, 4), labelled(4, 4)), label_counts=counts)
    np.testing.assert_allclose(rows.shift, np.log(2 * counts / counts.sum()), rtol=1e-6)
