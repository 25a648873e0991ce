"""Flags that name labels are checked against the labels of the data, before training."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from miniature import plain_settings

from lasttoken.core.errors import SettingsError
from lasttoken.runs.label_flags import check_label_flags


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"threshold": "spma=0.9"}, "'spma'"),
        ({"threshold": "spam@recall=0.9", "cost": "spam:ham=5"}, "--cost"),
        ({"threshold": "auto,spam@recall=0.9"}, "auto"),
        ({"answers": "spam=yes,eggs=no"}, "'ham', 'spam'"),
    ],
)
def test_rules_and_answers_of_other_labels_are_rejected(changes: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(named)):
        check_label_flags(replace(plain_settings(), **changes), ("ham", "spam"))  # type: ignore[arg-type]


def test_rules_and_answers_of_the_labels_are_accepted() -> None:
    settings = replace(plain_settings(), threshold="spam@recall=0.9,ham=0.5", answers="spam=yes,ham=no")
    check_label_flags(settings, ("ham", "spam"))
