"""The verdict: the best baseline, the difference and its interval, and the sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lasttoken.evaluation.sample_size import rows_to_tell_apart
from lasttoken.evaluation.tasks.multi_label import MultiLabel
from lasttoken.evaluation.tasks.single_label import SingleLabel
from lasttoken.evaluation.verdict import judge

TASK = SingleLabel(("ham", "spam"))
TRUTH = np.arange(400) % 2


def wrong_on(*rows: int) -> Any:
    predicted = TRUTH.copy()
    predicted[list(rows)] = 1 - predicted[list(rows)]
    return predicted


def test_a_clear_gain_is_stated_in_points_with_its_interval() -> None:
    verdict = judge(TASK, TRUTH, wrong_on(1, 2), {"majority": np.zeros(400, int), "tfidf-logreg": wrong_on(*range(40))})
    assert verdict is not None
    assert verdict.baseline == "tfidf-logreg"
    assert verdict.difference == 38 / 400
    assert verdict.sentences[0].startswith(
        "The GPT is better than the best baseline, a bag of words (tfidf-logreg), by 9.5"
    )


def test_no_difference_is_no_evidence_and_says_how_much_faster_the_cheap_model_is() -> None:
    seconds = {"ours": 0.04, "tfidf-logreg": 0.0001}
    verdict = judge(TASK, TRUTH, wrong_on(1, 2, 3), {"tfidf-logreg": wrong_on(7, 8)}, seconds_per_row=seconds)
    assert verdict is not None
    assert verdict.sentences[0].startswith("No evidence that the GPT is better: a bag of words")
    assert "answers about 400 times faster" in verdict.sentences[0]


def test_a_clear_loss_says_to_use_the_baseline() -> None:
    verdict = judge(TASK, TRUTH, wrong_on(*range(60)), {"char-ngrams": wrong_on(1)})
    assert verdict is not None
    assert "The GPT is worse than character n-grams (char-ngrams) by" in verdict.sentences[0]
    assert "use the baseline" in verdict.sentences[0]


def test_a_gain_that_the_rows_cannot_tell_says_how_many_would() -> None:
    seconds = {"ours": 0.04, "tfidf-logreg": 0.0001}
    verdict = judge(TASK, TRUTH, wrong_on(1), {"tfidf-logreg": wrong_on(7, 8, 9)}, seconds_per_row=seconds)
    assert verdict is not None
    assert verdict.difference == 2 / 400
    assert verdict.rows_needed == rows_to_tell_apart(3 / 400, 1 / 400) == verdict.to_json()["rows_needed"]
    (sentence, _) = verdict.sentences
    assert sentence.startswith("No evidence that the GPT is better than a bag of words (tfidf-logreg), which answers")
    assert "on 400 rows the difference of +0.5 points" in sentence
    assert "about 3,200 would be needed" in sentence


@pytest.mark.parametrize("ours", [wrong_on(1), wrong_on(1, 2), wrong_on(*range(60))], ids=["equal", "less", "worse"])
def test_where_the_gpt_is_not_ahead_no_number_of_rows_is_stated(ours: Any) -> None:
    verdict = judge(TASK, TRUTH, ours, {"tfidf-logreg": wrong_on(7)})
    assert verdict is not None
    assert verdict.rows_needed is None
    assert "needed" not in verdict.sentences[0]


def test_where_the_gpt_is_better_no_number_of_rows_is_stated() -> None:
    verdict = judge(TASK, TRUTH, wrong_on(), {"tfidf-logreg": wrong_on(*range(40))})
    assert verdict is not None
    assert verdict.rows_needed is None


def test_by_micro_f1_there_is_no_mcnemar_test_and_no_number_of_rows() -> None:
    truth = np.stack((TRUTH == 0, TRUTH == 1), axis=1)
    ours, theirs = truth.copy(), truth.copy()
    ours[:10] = theirs[10:22] = False
    verdict = judge(MultiLabel(("ham", "spam")), truth, ours, {"tfidf-logreg": theirs})
    assert verdict is not None
    assert verdict.difference > 0 >= verdict.difference_ci95[0]
    assert verdict.rows_needed is None
    assert "cannot be told from chance." in verdict.sentences[0]


def test_copies_raise_the_number_of_rows() -> None:
    ours, theirs = wrong_on(50, 51), wrong_on(*range(8))
    alone = judge(TASK, TRUTH, ours, {"tfidf-logreg": theirs})
    copies = judge(TASK, TRUTH, ours, {"tfidf-logreg": theirs}, groups=np.arange(400) // 4)
    assert alone is not None
    assert copies is not None
    assert alone.rows_needed
    assert copies.rows_needed
    assert copies.rows_needed > 2 * alone.rows_needed


def test_copies_widen_the_interval() -> None:
    ours, theirs = wrong_on(), wrong_on(*range(20))
    alone = judge(TASK, TRUTH, ours, {"tfidf-logreg": theirs})
    copies = judge(TASK, TRUTH, ours, {"tfidf-logreg": theirs}, groups=np.arange(400) // 20)
    assert alone is not None
    assert copies is not None
    assert copies.difference_ci95[0] < alone.difference_ci95[0]


def test_without_baselines_there_is_no_verdict() -> None:
    assert judge(TASK, TRUTH, TRUTH, {}) is None
