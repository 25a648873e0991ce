"""The values of --threshold and --cost: what they parse to, and that an invalid one is named."""

from __future__ import annotations

import pytest

from lasttoken.core.errors import SettingsError
from lasttoken.evaluation.decision import Decision
from lasttoken.evaluation.decision_flags import Target, parse_decision, parse_label_thresholds, parse_targets

LABELS = ("ham", "spam")


@pytest.mark.parametrize(
    ("threshold", "cost", "says"),
    [
        ("high", None, "--threshold is 'high'"),
        ("1.5", None, "--threshold is '1.5'"),
        ("spma=0.9", None, "'spma'.*did you mean 'spam'"),
        (None, "spam=5", "--cost is 'spam"),
        (None, "spam:ham=much", "--cost is 'spam"),
        (None, "spam:ham=-1", "--cost is .*-1"),
        (None, "spam:spam=2", "--cost is 'spam:spam=2'"),
        ("spam=0.9", "spam:ham=5", "--cost and a --threshold"),
    ],
)
def test_an_invalid_value_is_named(threshold: str | None, cost: str | None, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        parse_decision(threshold, cost, LABELS)


def test_auto_is_for_two_labels() -> None:
    with pytest.raises(SettingsError, match=r"two labels.*3"):
        parse_decision("auto", None, ("a", "b", "c"))


def test_targets_are_taken_out_of_the_thresholds() -> None:
    rest, targets = parse_targets("spam@precision=0.99,ham=0.5", LABELS)
    assert rest == "ham=0.5"
    assert targets == (Target(1, "precision", 0.99),)
    assert parse_decision(rest, None, LABELS) == Decision(thresholds=((0, 0.5),))
    assert parse_targets("user@recall=0.4", ["ham", "user@recall"]) == ("user@recall=0.4", ())
    assert parse_targets(None, LABELS) == (None, ())
    assert parse_targets("auto", LABELS) == ("auto", ())


@pytest.mark.parametrize(
    ("threshold", "match"),
    [
        ("eggs@precision=0.9", "'eggs'"),
        ("spam@precision=0", "spam@precision=0"),
        ("spam@recall=1.5", "recall must be"),
        ("spam@recall=nan", "recall must be"),
        ("spam@recall=high", "spam@recall=high"),
        ("spam@recall=0.9,spam@precision=0.9", "names 'spam' twice"),
        ("spam@recall=0.9,spam=0.5", "names 'spam' twice"),
    ],
)
def test_an_invalid_target_is_named(threshold: str, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        parse_targets(threshold, LABELS)


def test_a_target_needs_a_training() -> None:
    with pytest.raises(SettingsError, match=r"spam@precision=0.9.*spam=0.9"):
        parse_decision("spam@precision=0.9", None, LABELS)


def test_a_bare_probability_is_the_threshold_of_all_labels_not_named() -> None:
    for threshold in ("0.3,spam=0.6", "spam=0.6,0.3"):
        assert parse_label_thresholds(threshold, None, LABELS).thresholds == ((0, 0.3), (1, 0.6))
    assert parse_label_thresholds("auto", None, LABELS) == Decision()
    with pytest.raises(SettingsError, match="--cost"):
        parse_label_thresholds(None, "spam:ham=5", LABELS)
