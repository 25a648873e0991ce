"""Answers have the right labels, scores and ranking; loading a classifier does not change the process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from miniature import classifier_of, random_gpt, small_tokenizer

from lasttoken import TextClassifier
from lasttoken.classifier.checkpoint import save_classifier
from lasttoken.classifier.classifier import ClassifierConfig
from lasttoken.classifier.predict import Predictor, answers_of
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.process import flushes_denormals
from lasttoken.evaluation.decision import Decision

LABELS = ("a", "b", "c")
LENGTHS, CUT = np.array([3, 4]), np.array([False, True])


def config_of(**changes: object) -> ClassifierConfig:
    return replace(classifier_of(random_gpt(), labels=LABELS).config, **changes)  # type: ignore[arg-type]


def log_probs_of(*rows: list[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.log(np.array(rows, dtype=np.float64)).astype(np.float32)


def test_an_answer_has_the_most_probable_label_and_all_labels_ranked() -> None:
    first, second = answers_of(log_probs_of([0.2, 0.7, 0.1], [0.5, 0.2, 0.3]), LENGTHS, CUT, config_of(), decimals=3)
    assert (first.label, first.labels, first.score) == ("b", ("b",), 0.7)
    assert first.ranked == [("b", 0.7), ("a", 0.2), ("c", 0.1)]
    assert (first.n_tokens, first.truncated) == (3, False)
    assert (second.label, second.n_tokens, second.truncated) == ("a", 4, True)
    assert second.by_label(LABELS) == [0.5, 0.2, 0.3]


def test_a_classifier_that_abstains_gives_no_label_and_the_largest_probability() -> None:
    config = config_of(decision=Decision(abstain_below=0.9))
    (answer,) = answers_of(log_probs_of([0.2, 0.7, 0.1]), LENGTHS[:1], CUT[:1], config, decimals=6)
    assert (answer.label, answer.labels, answer.score) == (None, (), 0.7)


def test_a_multi_label_classifier_gives_labels_from_the_most_probable_on() -> None:
    config = config_of(separator="|")
    (answer,) = answers_of(log_probs_of([0.6, 0.9, 0.1]), LENGTHS[:1], CUT[:1], config, decimals=6)
    assert (answer.label, answer.labels, answer.score) == ("b", ("b", "a"), 0.9)


def test_equal_rounded_probabilities_keep_the_order_of_the_labels_unless_exact_ones_rank() -> None:
    log_probs = log_probs_of([0.2499, 0.5, 0.2501])
    (rounded,) = answers_of(log_probs, LENGTHS[:1], CUT[:1], config_of(), decimals=2)
    (exact,) = answers_of(log_probs, LENGTHS[:1], CUT[:1], config_of(), decimals=2, rank_rounded=False)
    assert [label for label, _ in rounded.ranked] == ["b", "a", "c"]
    assert [label for label, _ in exact.ranked] == ["b", "c", "a"]


def test_top_k_cuts_the_ranking_only() -> None:
    (answer,) = answers_of(log_probs_of([0.2, 0.7, 0.1]), LENGTHS[:1], CUT[:1], config_of(), decimals=6, top_k=1)
    assert answer.ranked == [("b", 0.7)]


def test_no_texts_have_no_answers() -> None:
    assert answers_of(np.empty((0, 3), np.float32), LENGTHS[:0], CUT[:0], config_of()) == []
    assert Predictor(classifier_of(random_gpt(), labels=LABELS), small_tokenizer()).predict([]) == []


def test_predict_gives_unrounded_probabilities_in_the_order_of_the_labels() -> None:
    predictor = Predictor(classifier_of(random_gpt(), labels=LABELS), small_tokenizer())
    (prediction,) = predictor.predict(["win the prize"])
    expected = np.exp(predictor.log_probs(predictor.encode(["win the prize"])))[0]
    assert list(prediction.probs) == list(LABELS)
    assert list(prediction.probs.values()) == expected.tolist()
    assert prediction.score == max(prediction.probs.values())


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    save_classifier(tmp_path / "run", classifier_of(random_gpt()), small_tokenizer())
    RunDir(tmp_path / "run").write_metrics({})
    return tmp_path / "run"


def test_loading_and_predicting_leave_denormal_numbers_as_they_were(run_dir: Path) -> None:
    before = flushes_denormals()
    try:
        torch.set_flush_denormal(False)
        Predictor.load(run_dir, "cpu").predict(["a"])
        TextClassifier.load(run_dir, device="cpu").predict(["a"])
        assert not flushes_denormals()
    finally:
        torch.set_flush_denormal(before)
