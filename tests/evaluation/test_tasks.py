"""The two tasks: the loss against torch, probabilities against scipy, and predictions in both shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_expit, log_softmax
from torch.nn import functional

from lasttoken.core.errors import DivergedError, SettingsError
from lasttoken.data.frames import from_lists
from lasttoken.data.label_tables import truth_of
from lasttoken.evaluation.decision import Decision
from lasttoken.evaluation.tasks.choice import task_class, task_of
from lasttoken.evaluation.tasks.multi_label import MultiLabel
from lasttoken.evaluation.tasks.single_label import SingleLabel
from lasttoken.evaluation.tasks.task import Task

LABELS = ("joy", "love", "fear")
SINGLE, MULTI = SingleLabel(LABELS), MultiLabel(LABELS, "|")
LOGITS = np.array([[2.0, 1.0, -3.0], [-1.0, -0.5, -2.0], [0.5, 0.4, 0.3]], dtype=np.float32)
IDS = np.array([0, 2, 1])
SETS = np.array([[True, True, False], [False, False, False], [False, True, True]])


def test_a_separator_makes_a_multi_label_task() -> None:
    assert task_of(["joy"], None) == SingleLabel(("joy",))
    assert task_of(["joy"], ";") == MultiLabel(("joy",), ";")
    assert [task_of(LABELS, separator).separator for separator in (None, ";")] == [None, ";"]


def test_the_loss_is_torchs() -> None:
    logits, ids, sets = torch.from_numpy(LOGITS), torch.from_numpy(IDS), torch.from_numpy(SETS)
    weights, rows = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([1.0, 0.25, 3.0])
    assert SINGLE.loss(logits, ids, weights) == functional.cross_entropy(logits, ids, weights)
    expected = (functional.cross_entropy(logits, ids, reduction="none") * rows).mean()
    assert SINGLE.loss(logits, ids, None, rows).item() == pytest.approx(expected.item())
    probs = torch.sigmoid(logits)
    assert MULTI.loss(logits, sets).item() == pytest.approx(
        functional.binary_cross_entropy(probs, sets.float()).item(), abs=1e-6
    )


def test_label_smoothing_is_torchs_and_of_several_labels_between_having_each_and_not() -> None:
    logits, ids, sets = torch.from_numpy(LOGITS), torch.from_numpy(IDS), torch.from_numpy(SETS)
    weights, rows = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([1.0, 0.25, 3.0])
    for label_weights in (None, weights):
        expected = functional.cross_entropy(logits, ids, label_weights, label_smoothing=0.2)
        assert SINGLE.loss(logits, ids, label_weights, label_smoothing=0.2) == expected
    spread = 0.2 / 3 + 0.8 * functional.one_hot(ids, 3)
    by_hand = -(spread * torch.log_softmax(logits, 1)).sum(1)
    assert SINGLE.loss(logits, ids, label_smoothing=0.2).item() == pytest.approx(by_hand.mean().item())
    assert SINGLE.loss(logits, ids, None, rows, 0.2).item() == pytest.approx((by_hand * rows).mean().item())
    # The cross-entropy between a decision's two outcomes, with torch's own smoothing of two labels.
    pairs = torch.stack((torch.zeros_like(logits), logits), 2).view(-1, 2)
    expected = functional.cross_entropy(pairs, sets.long().view(-1), label_smoothing=0.2)
    assert MULTI.loss(logits, sets, label_smoothing=0.2).item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("task", "reference"), [(SINGLE, lambda logits: log_softmax(logits, axis=1)), (MULTI, log_expit)]
)
def test_probabilities_are_scipys_at_every_temperature(task: Task, reference: object) -> None:
    assert callable(reference)
    assert task.log_probs(LOGITS) == pytest.approx(reference(LOGITS), abs=1e-6)
    assert task.log_probs(LOGITS, 2.5) == pytest.approx(reference(LOGITS / 2.5), abs=1e-6)


@pytest.mark.parametrize("task", [SINGLE, MULTI])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_never_a_prediction(task: Task, value: float) -> None:
    with pytest.raises(DivergedError, match="--precision float32"):
        task.log_probs(np.array([[0.0, value, 0.0]], dtype=np.float32))


def test_predictions_and_given_labels_agree() -> None:
    single, multi = SINGLE.log_probs(LOGITS), MULTI.log_probs(LOGITS)
    assert SINGLE.decide(single, Decision()).tolist() == [0, 1, 0]
    assert SINGLE.given_label_ids(single, Decision(abstain_below=0.5)) == [[0], [1], []]
    assert SINGLE.answered(single, Decision(abstain_below=0.5)).tolist() == [True, True, False]
    assert MULTI.decide(multi, Decision()).tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert MULTI.given_label_ids(multi, Decision(thresholds=((0, 0.9),))) == [[1], [], [1, 2]]
    assert MULTI.answered(multi, Decision()).all()
    assert SINGLE.given_label_ids(np.empty((0, 3), np.float32), Decision()) == []


def test_log_odds_are_those_of_the_probabilities() -> None:
    logits = torch.from_numpy(LOGITS).double()
    for task in (SINGLE, MULTI):
        probs = np.exp(task.log_probs(LOGITS).astype(np.float64))[:, 1]
        assert task.log_odds(logits, 1).numpy() == pytest.approx(np.log(probs / (1 - probs)), abs=1e-5)


def test_label_texts_survive_a_round_trip() -> None:
    for task, answers in ((SINGLE, IDS), (MULTI, SETS)):
        cells = task.joined(answers)
        rows = [cell.split("|") if cell else [] for cell in cells] if task.separator else cells
        examples = from_lists(["a", "b", "c"], rows, separator=task.separator)
        assert (truth_of(examples, LABELS) == answers).all()
        for label_id in range(3):
            assert (task.has_labels(answers)[:, label_id] == task.has_label(answers, label_id)).all()
    assert SINGLE.n_given(np.array([0, 2, 0])) == 2
    assert MULTI.n_given(SETS) == 3


def test_the_headline_difference_is_of_the_headline_metric() -> None:
    for task, truth, other in ((SINGLE, IDS, np.array([0, 0, 0])), (MULTI, SETS, ~SETS)):
        probs = np.zeros((3, 3), np.float32)
        values = [
            getattr(task.metrics(truth, log_probs=probs, predicted=answers), task.headline)
            for answers in (truth, other)
        ]
        assert task.difference(truth, truth, other).value == pytest.approx(values[0] - values[1])


def test_reliability_of_a_multi_label_task_is_of_each_decision() -> None:
    log_probs, ids = MULTI.reliability_rows(MULTI.log_probs(LOGITS), SETS)
    assert log_probs.shape == (9, 2)
    assert np.exp(log_probs).sum(axis=1) == pytest.approx(np.ones(9))
    assert ids.tolist() == SETS.ravel().astype(int).tolist()
    assert SINGLE.reliability_rows(SINGLE.log_probs(LOGITS), IDS)[1].tolist() == IDS.tolist()


def test_errors_shown_are_those_in_the_label_that_is_explained() -> None:
    single, multi = SINGLE.log_probs(LOGITS), MULTI.log_probs(LOGITS)
    predicted = SINGLE.decide(single, Decision())
    assert SINGLE.explained_label_ids(single, predicted).tolist() == predicted.tolist()
    assert SINGLE.is_confident_error(single, IDS, predicted == IDS).tolist() == [False, True, True]
    correct = (MULTI.decide(multi, Decision()) == SETS).all(axis=1)
    assert MULTI.explained_label_ids(multi, SETS).tolist() == [0, 1, 0]
    assert MULTI.is_confident_error(multi, SETS, correct).tolist() == [False, False, True]


def test_a_saved_rule_is_replaced_or_completed() -> None:
    saved = Decision(thresholds=((0, 0.2), (1, 0.3)))
    assert SINGLE.change_decision(saved, "0.8", None) == Decision(abstain_below=0.8)
    assert MULTI.change_decision(saved, "love=0.9", None).thresholds == ((0, 0.2), (1, 0.9))
    with pytest.raises(SettingsError, match="--cost"):
        MULTI.parse_decision(None, "joy:love=2")
    with pytest.raises(SettingsError, match="two labels"):
        SINGLE.parse_decision("auto", None)


def test_label_ids_are_read_in_place_of_labels_only_where_a_text_has_one() -> None:
    assert SINGLE.read_as_ids({"0", "2.0"}) == {"0": 0, "2.0": 2}
    assert SINGLE.read_as_ids({"0", "3"}) == SINGLE.read_as_ids(set()) == MULTI.read_as_ids({"0", "2"}) == {}


def test_label_ids_of_rows_become_the_truth() -> None:
    assert SINGLE.truth_from_ids([[0], [2], [1]]).tolist() == IDS.tolist()
    assert MULTI.truth_from_ids([[0, 1], [], [2, 1]]).tolist() == SETS.tolist()


def test_a_threshold_is_advised_for_a_rare_label_of_a_single_label_task() -> None:
    counts = {"joy": 30, "love": 9, "fear": 12}
    assert (SINGLE.dominated_label(counts, 3), SINGLE.dominated_label(counts, 4)) == ("love", None)
    assert SINGLE.dominated_label({"joy": 30}, 3) is None
    assert MULTI.dominated_label(counts, 3) is None


def test_the_rule_that_transformers_loses_names_its_threshold() -> None:
    assert SINGLE.lost_rule(Decision()) is None
    assert "love" in (SINGLE.lost_rule(SINGLE.parse_decision("love=0.2", None)) or "")
    assert SINGLE.rule_for_scores(Decision()) == ""
    assert "love 0.250" in MULTI.rule_for_scores(Decision(thresholds=((1, 0.25),)))
    assert MULTI.lost_rule(Decision())


def test_the_class_of_a_task_follows_from_its_kind() -> None:
    assert (task_class(False), task_class(True)) == (SingleLabel, MultiLabel)
    assert (SINGLE.labels_field(["joy"]), MULTI.labels_field(["joy"])) == ({}, {"labels": ["joy"]})
