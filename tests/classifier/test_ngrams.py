"""The n-gram model of a classifier: scikit-learn's own numbers, saved without pickles, checked when it is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniature import messages
from numpy.typing import NDArray
from scipy.special import log_softmax, logit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from lasttoken.backbone.weights import write_tensor_file
from lasttoken.classifier.ngrams import FILES, Blend, NgramModel, load_ngrams, save_ngrams
from lasttoken.core.errors import BackboneError, RunError, UserError
from lasttoken.evaluation import linear_models
from lasttoken.evaluation.baselines import BASELINES, FitInput, LabelledTexts, LinearBaseline
from lasttoken.evaluation.tasks.choice import task_of

TEXTS, _ = messages(60)
UNSEEN = ["", "a", "WIN a PRIZE, see you then!", "Zürich \N{SNOWMAN} 日本語", "the book " * 50]
THREE = np.array([min(2, "WIN" in text) + (text.endswith("keys") * 2) for text in TEXTS], dtype=np.int64)
TWO = np.array(["WIN" in text for text in TEXTS], dtype=np.int64)
HALF = 5e-3  # of logits: weights are rounded to 16 bits


def fitted(name: str, truth: NDArray[Any], validation: LabelledTexts | None = None) -> LinearBaseline:
    labels = [f"label {at}" for at in range(truth.shape[1] if truth.ndim == 2 else int(truth.max()) + 1)]
    fit = BASELINES[name].fit
    assert fit is not None
    task = task_of(labels, "|" if truth.ndim == 2 else None)
    model = fit(FitInput(task, LabelledTexts(TEXTS, truth), validation, 1))
    assert isinstance(model, LinearBaseline)
    return model


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tfidf-logreg", {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}),
        ("char-ngrams", {"analyzer": "char_wb", "ngram_range": (2, 5)}),
    ],
)
@pytest.mark.parametrize("truth", [TWO, THREE], ids=["two", "three"])
def test_it_gives_the_log_probabilities_of_scikit_learn_s_own_pipeline(
    name: str, options: dict[str, Any], truth: NDArray[np.int64]
) -> None:
    pipeline = make_pipeline(
        TfidfVectorizer(**options, sublinear_tf=True, max_features=100_000, dtype=np.float32),
        LogisticRegression(C=30.0, max_iter=300, random_state=1),
    ).fit(TEXTS, truth)
    logits = NgramModel.of(fitted(name, truth)).logits(TEXTS + UNSEEN)
    expected = pipeline.predict_log_proba(TEXTS + UNSEEN)
    np.testing.assert_allclose(logits, expected, atol=HALF)
    np.testing.assert_array_equal(logits.argmax(1), expected.argmax(1))


def several() -> NDArray[np.bool_]:
    return np.stack([TWO > 0, THREE > 1, np.ones(len(TEXTS), bool), np.zeros(len(TEXTS), bool)], axis=1)


def test_several_labels_have_the_log_odds_of_each() -> None:
    baseline = fitted("tfidf-logreg", several())
    logits = NgramModel.of(baseline).logits(UNSEEN)
    probs = baseline.predict(UNSEEN).probs
    assert probs is not None
    np.testing.assert_allclose(logits[:, :2], logit(probs[:, :2]), atol=HALF)
    np.testing.assert_array_equal(logits[:, 2:], [[30.0, -30.0]] * len(UNSEEN))  # all rows had the label, or none


@pytest.mark.parametrize("truth", [TWO, THREE, several()], ids=["two", "three", "several"])
def test_gradient_descent_gives_its_own_probabilities(truth: NDArray[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With more than two labels it fits each against the rest, and normalizes."""
    monkeypatch.setattr(linear_models, "MAX_EXACT", 0)
    monkeypatch.setattr(linear_models, "MAX_EXACT_ONE_VS_REST", 0)
    baseline = fitted("char-ngrams", truth)
    expected = baseline.predict(UNSEEN)
    logits = NgramModel.of(baseline).logits(UNSEEN)
    if truth.ndim == 2:
        assert expected.probs is not None
        np.testing.assert_allclose(logits[:, :2], logit(expected.probs[:, :2]), atol=HALF)
    else:
        np.testing.assert_allclose(logits, expected.log_probs, atol=HALF)


@pytest.mark.parametrize("truth", [TWO, THREE], ids=["two", "three"])
def test_a_linear_svm_has_the_scale_that_was_fitted(truth: NDArray[np.int64], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_models, "fit_temperature", lambda scores, truth: 0.25)
    monkeypatch.setattr(
        linear_models,
        "fit_multinomial",
        lambda features, ids, n_labels, seed, validation: linear_models._fit_svm(
            features, ids, n_labels, seed, features, ids
        ),
    )
    monkeypatch.setattr("lasttoken.evaluation.tasks.single_label.fit_multinomial", linear_models.fit_multinomial)
    baseline = fitted("char-ngrams", truth)
    assert "SVM" in baseline.notes[0]
    scores = baseline.model.linear.decision_function(baseline.vectorizer.transform(UNSEEN))  # type: ignore[attr-defined]
    scores = np.stack((-scores, scores), axis=1) / 2 if scores.ndim == 1 else scores
    np.testing.assert_allclose(NgramModel.of(baseline).logits(UNSEEN), log_softmax(scores / 0.25, axis=1), atol=0.02)


def test_a_label_that_no_row_had_is_all_but_impossible() -> None:
    truth = np.where(THREE == 1, 0, THREE)
    logits = NgramModel.of(fitted("tfidf-logreg", truth)).logits(UNSEEN)
    assert np.isfinite(logits).all()
    assert (logits[:, 1] < -20).all()


def test_a_shift_is_added_to_the_scores() -> None:
    baseline = fitted("tfidf-logreg", TWO)
    shift = np.array([0.4, -0.7], dtype=np.float32)
    plain, shifted = (NgramModel.of(baseline, each).logits(UNSEEN) for each in (0.0, shift))
    np.testing.assert_allclose(np.diff(shifted) - np.diff(plain), -1.1, atol=1e-5)


def test_long_texts_are_cut_as_they_were_when_it_was_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lasttoken.evaluation.baselines.MAX_CHARACTERS", 60 * 20)
    baseline = fitted("tfidf-logreg", TWO)
    assert baseline.max_characters
    model = NgramModel.of(baseline)
    long = "see you then " * 10
    np.testing.assert_array_equal(model.logits([long]), model.logits([long[: baseline.max_characters]]))


def test_no_texts_give_no_rows_and_no_text_depends_on_the_others() -> None:
    model = NgramModel.of(fitted("char-ngrams", THREE))
    assert model.logits([]).shape == (0, 3)
    together = model.logits(TEXTS + UNSEEN)
    with ThreadPoolExecutor(4) as threads:
        alone = list(threads.map(lambda text: model.logits([text])[0], TEXTS + UNSEEN))
    np.testing.assert_array_equal(together, alone)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_ngrams(tmp_path, NgramModel.of(fitted("tfidf-logreg", THREE)))
    return tmp_path


def test_it_is_loaded_to_the_last_bit_and_nothing_is_a_pickle(folder: Path) -> None:
    model = load_ngrams(folder, 3)
    np.testing.assert_array_equal(
        model.logits(TEXTS + UNSEEN), NgramModel.of(fitted("tfidf-logreg", THREE)).logits(TEXTS + UNSEEN)
    )
    assert {path.name for path in folder.iterdir()} == set(FILES)
    content = json.loads((folder / "ngrams.json").read_text("utf-8"))
    assert content["vocabulary"] == sorted(content["vocabulary"])
    save_ngrams(folder, None)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", ["tfidf-logreg", "char-ngrams"])
def test_terms_with_half_a_character_are_left_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON lines may hold a lone surrogate, which a file in UTF-8 cannot."""
    monkeypatch.setattr(f"{__name__}.TEXTS", [f"{text} \ud800x" for text in TEXTS])
    model = NgramModel.of(fitted(name, TWO))
    save_ngrams(tmp_path, model)
    np.testing.assert_array_equal(load_ngrams(tmp_path, 2).logits(TEXTS), model.logits(TEXTS))
    assert (model.logits(TEXTS).argmax(1) == TWO).all()


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def changed(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "ngrams.json"
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")

    return change


def truncated(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-40])

    return change


def flipped(folder: Path) -> None:
    content = bytearray((folder / "ngrams.safetensors").read_bytes())
    content[-3] ^= 8
    (folder / "ngrams.safetensors").write_bytes(content)


def other_tensors(**tensors: torch.Tensor) -> Callable[[Path], None]:
    return lambda folder: write_tensor_file(folder / "ngrams.safetensors", tensors)


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        (without("ngrams.json"), RunError, "ngrams.json"),
        (without("ngrams.safetensors"), RunError, "ngrams.safetensors"),
        (truncated("ngrams.json"), RunError, "ngrams.json"),
        (truncated("ngrams.safetensors"), BackboneError, "ngrams.safetensors"),
        (flipped, BackboneError, "ngrams.safetensors"),
        (changed(format=2), RunError, "format 1"),
        (changed(analyzer="code"), RunError, "analyzer"),
        (changed(ngram_range=[2, 1]), RunError, "ngram_range"),
        (changed(ngram_range=[0, 1]), RunError, "ngram_range"),
        (changed(vocabulary=[]), RunError, "vocabulary"),
        (changed(vocabulary=["a", "a"]), RunError, "twice"),
        (changed(vocabulary=["a", "b"]), BackboneError, "idf"),
        (changed(token_pattern="("), RunError, "ngrams.json"),
        (changed(link="exp"), RunError, "link"),
        (changed(stop_words="english"), RunError, "stop_words"),
        (other_tensors(bias=torch.zeros(3)), BackboneError, "idf"),
    ],
)
def test_a_damaged_or_newer_file_is_named(
    change: Callable[[Path], None], error: type[UserError], named: str, folder: Path
) -> None:
    change(folder)
    with pytest.raises(error, match=named):
        load_ngrams(folder, 3)


def test_another_number_of_labels_is_named(folder: Path) -> None:
    with pytest.raises(BackboneError, match="weights"):
        load_ngrams(folder, 4)


def test_a_sum_of_log_probabilities_is_a_product_of_powers() -> None:
    gpt, ngrams = np.log([[0.8, 0.2]]).astype(np.float32), np.log([[0.5, 0.5]]).astype(np.float32)
    together = Blend("words", 0.25, 1.0).combine(gpt, ngrams)
    assert math.isclose(float(np.diff(together)[0, 0]), 0.75 * math.log(0.25), rel_tol=1e-6)
