"""Decision rules: thresholds, costs and abstention, from probabilities to a prediction."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from lasttoken.core.documents import checked
from lasttoken.evaluation.decision import MOST_PROBABLE, Decision, rule_in_words
from lasttoken.evaluation.decision_flags import parse_decision

LABELS = ("ham", "spam")
PROBS = np.array([[0.2, 0.8], [0.05, 0.95], [0.7, 0.3], [0.45, 0.55]])


def test_the_default_predicts_the_most_probable_label() -> None:
    assert MOST_PROBABLE.is_default
    assert MOST_PROBABLE.decide(np.log(PROBS)).tolist() == [1, 1, 0, 1]
    assert MOST_PROBABLE.answered(np.log(PROBS)).all()


def test_a_threshold_holds_its_label_back_or_lets_it_through() -> None:
    assert parse_decision("spam=0.9", None, LABELS).decide(np.log(PROBS)).tolist() == [0, 1, 0, 0]
    assert parse_decision("spam=0.25", None, LABELS).decide(np.log(PROBS)).tolist() == [1, 1, 1, 1]


def test_below_a_bare_threshold_there_is_no_answer() -> None:
    rule = parse_decision("0.75", None, LABELS)
    assert rule.answered(np.log(PROBS)).tolist() == [True, True, False, False]
    assert rule.decide(np.log(PROBS)).tolist() == [1, 1, 0, 1]


def test_the_lowest_expected_cost_wins() -> None:
    """Ham predicted for spam costs 5: spam wins from a probability of 1/6 on (Elkan 2001)."""
    rule = parse_decision(None, "spam:ham=5", LABELS)
    p = np.array([0.16, 0.17])
    assert rule.decide(np.log(np.stack((1 - p, p), axis=1))).tolist() == [0, 1]


@pytest.mark.parametrize(
    "rule", [parse_decision("spam=0.9", None, LABELS), parse_decision("0.8", "spam:ham=5", LABELS)]
)
def test_a_rule_survives_json(rule: Decision) -> None:
    assert checked(Decision, asdict(rule), "config.json") == rule
    assert "spam" in rule_in_words(rule, LABELS)
