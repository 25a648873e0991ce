"""Thresholds, costs and abstaining: from probabilities to an answer."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from lasttoken.core.documents import checked
from lasttoken.core.errors import SettingsError
from lasttoken.evaluation.decision import MOST_PROBABLE, Decision, best_threshold, parse_decision

LABELS = ("ham", "spam")
PROBS = np.array([[0.2, 0.8], [0.05, 0.95], [0.7, 0.3], [0.45, 0.55]])


def test_the_default_answers_with_the_most_probable_label() -> None:
    assert MOST_PROBABLE.is_default
    assert MOST_PROBABLE.decide(np.log(PROBS)).tolist() == [1, 1, 0, 1]
    assert MOST_PROBABLE.answers(np.log(PROBS)).all()


def test_a_threshold_holds_its_label_back_or_lets_it_through() -> None:
    assert parse_decision("spam=0.9", None, LABELS).decide(np.log(PROBS)).tolist() == [0, 1, 0, 0]
    assert parse_decision("spam=0.25", None, LABELS).decide(np.log(PROBS)).tolist() == [1, 1, 1, 1]


def test_below_a_bare_threshold_there_is_no_answer() -> None:
    rule = parse_decision("0.75", None, LABELS)
    assert rule.answers(np.log(PROBS)).tolist() == [True, True, False, False]
    assert rule.decide(np.log(PROBS)).tolist() == [1, 1, 0, 1]


def test_the_answer_of_least_expected_cost_wins() -> None:
    """Spam called ham costs 5: spam from a probability of 1/6 on (Elkan 2001)."""
    rule = parse_decision(None, "spam:ham=5", LABELS)
    p = np.array([0.16, 0.17])
    assert rule.decide(np.log(np.stack((1 - p, p), axis=1))).tolist() == [0, 1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.integers(0, 1)), min_size=2, max_size=12))
def test_the_best_threshold_has_the_best_macro_f1(rows: list[tuple[float, int]]) -> None:
    p, truth = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    log_probs = np.log(np.stack((1 - p, p), axis=1))

    def macro_f1(rule: Decision) -> float:
        return float(f1_score(truth, rule.decide(log_probs), average="macro", labels=[0, 1], zero_division=0))

    found = best_threshold(log_probs, truth)
    rare = int(np.bincount(truth, minlength=2).argmin())
    tried = [Decision(thresholds=((rare, float(t)),)) for t in np.linspace(0.005, 0.995, 34)]
    assert macro_f1(found) >= max(map(macro_f1, tried)) - 1e-9


@pytest.mark.parametrize(
    ("threshold", "cost", "says"),
    [
        ("high", None, "write a probability to abstain below"),
        ("1.5", None, "above 0 and below 1"),
        ("spma=0.9", None, "'spma', which is not one of 'ham', 'spam'; did you mean 'spam'"),
        (None, "spam=5", "write true:answered=cost"),
        (None, "spam:ham=much", "write true:answered=cost"),
        (None, "spam:ham=-1", "0 or more"),
        (None, "spam:spam=2", "the right answer costs nothing"),
        ("spam=0.9", "spam:ham=5", "use one of them"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(threshold: str | None, cost: str | None, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        parse_decision(threshold, cost, LABELS)


def test_auto_is_for_two_labels() -> None:
    with pytest.raises(SettingsError, match="for two labels, and there are 3"):
        parse_decision("auto", None, ("a", "b", "c"))


@pytest.mark.parametrize(
    "rule", [parse_decision("spam=0.9", None, LABELS), parse_decision("0.8", "spam:ham=5", LABELS)]
)
def test_a_rule_survives_json(rule: Decision) -> None:
    assert checked(Decision, asdict(rule), "config.json") == rule
    assert "spam" in rule.in_words(LABELS)
