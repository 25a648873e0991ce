"""The verdict's sentences, the slices, and what is said about trainings that went wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from lasttoken.evaluation.diagnosis import diagnose
from lasttoken.evaluation.metrics import Metrics, compute_metrics
from lasttoken.evaluation.slices import length_quarters, slice_accuracy
from lasttoken.evaluation.task import SingleLabel
from lasttoken.evaluation.verdict import judge

TASK = SingleLabel(("ham", "spam"))
TRUTH = np.arange(400) % 2


def wrong_on(*rows: int) -> Any:
    predicted = TRUTH.copy()
    predicted[list(rows)] = 1 - predicted[list(rows)]
    return predicted


def test_a_clear_gain_is_told_in_points_with_its_interval() -> None:
    found = judge(TASK, TRUTH, wrong_on(1, 2), {"majority": np.zeros(400, int), "tfidf-logreg": wrong_on(*range(40))})
    assert found is not None
    assert found.baseline == "tfidf-logreg"
    assert found.difference == 38 / 400
    assert found.sentences[0].startswith(
        "The GPT is better than the best baseline, a bag of words (tfidf-logreg), by 9.5"
    )


def test_no_difference_is_no_evidence_and_says_how_much_faster_the_cheap_model_is() -> None:
    seconds = {"ours": 0.04, "tfidf-logreg": 0.0001}
    found = judge(TASK, TRUTH, wrong_on(1, 2, 3), {"tfidf-logreg": wrong_on(7, 8)}, seconds_per_row=seconds)
    assert found is not None
    assert found.sentences[0].startswith("No evidence that the GPT is better: a bag of words")
    assert "answers about 400 times faster" in found.sentences[0]


def test_a_clear_loss_says_to_use_the_baseline() -> None:
    found = judge(TASK, TRUTH, wrong_on(*range(60)), {"char-ngrams": wrong_on(1)})
    assert found is not None
    assert "The GPT is worse than character n-grams (char-ngrams) by" in found.sentences[0]
    assert "use the baseline" in found.sentences[0]


def test_copies_widen_the_interval() -> None:
    ours, theirs = wrong_on(), wrong_on(*range(20))
    alone = judge(TASK, TRUTH, ours, {"tfidf-logreg": theirs})
    copies = judge(TASK, TRUTH, ours, {"tfidf-logreg": theirs}, groups=np.arange(400) // 20)
    assert alone is not None
    assert copies is not None
    assert copies.difference_ci95[0] < alone.difference_ci95[0]


def test_without_baselines_there_is_no_verdict() -> None:
    assert judge(TASK, TRUTH, TRUTH, {}) is None


def test_slices_are_worst_first_and_leave_out_the_tiny() -> None:
    keys = {"shop": ["a"] * 200 + ["b"] * 197 + ["c"] * 3}
    found = slice_accuracy(wrong_on(*range(50)) == TRUTH, keys)
    assert [(one.value, one.n, one.accuracy) for one in found] == [("a", 200, 0.75), ("b", 197, 1.0)]
    assert len(set(length_quarters(["x" * n for n in range(40)]))) == 4


def metrics_of(predicted: Any) -> Metrics:
    return compute_metrics(TRUTH, ["ham", "spam"], predicted_ids=predicted)


def test_troubles_are_named_with_their_cause() -> None:
    good, collapsed = metrics_of(TRUTH), metrics_of(np.zeros(400, int))
    falling = [{"kind": "epoch", "validation_loss": loss} for loss in (0.9, 0.6, 0.4)]
    found = " ".join(
        diagnose(TASK, {"train": good, "validation": good, "test": collapsed}, "test", 1, falling, collapsed)
    )
    for words in (
        "gives one label to every test text",
        "not clearly better than",
        "much better than test",
        "still improving",
    ):
        assert words in found
    assert (
        diagnose(TASK, {"train": good, "validation": good, "test": good}, "test", 2, falling[:1] * 2, collapsed) == []
    )


def test_a_split_of_one_label_tells_nothing() -> None:
    alone = compute_metrics(np.zeros(40, int), ["ham", "spam"], predicted_ids=np.zeros(40, int))
    found = diagnose(TASK, {"test": alone}, "test", 1, [], alone)
    assert found == [
        "All rows of test have the label 'ham': no figure here tells whether the labels are told apart. Give a test "
        "split with rows of every label."
    ]
