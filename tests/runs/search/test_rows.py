"""The rows of trials: none is both fitted and scored, none is of test, and validation is left alone if it is large."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lasttoken.data.files import Examples
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs.search import rows as module
from lasttoken.runs.search.rows import TrialRows, affordable_rows, trial_rows


def examples(n: int, name: str) -> Examples:
    words = np.random.default_rng(len(name)).integers(0, 10**9, (n, 6))
    texts = [" ".join(f"w{number}" for number in row) for row in words.tolist()]
    return Examples([f"{name} {text}" for text in texts], [("ham", "spam", "news")[i % 3] for i in range(n)])


def splits(n_train: int, n_validation: int, is_cut: bool = True) -> Splits:
    named = (examples(n_train, "train"), examples(n_validation, "validation"), examples(30, "test"))
    return replace(Splits(*named), validation_is_cut=is_cut)


def check(found: TrialRows) -> None:
    for step in found.steps:
        assert not set(step.fitted) & set(step.scored)
        assert {found.examples.labels[row] for row in step.fitted} == {"ham", "spam", "news"}  # type: ignore[index]
    assert not any(text.startswith("test") for text in found.examples.texts)


def test_few_rows_are_held_out_in_folds_with_those_of_validation() -> None:
    found = trial_rows(splits(210, 30), 1_000, 1)
    check(found)
    assert found.in_folds
    assert found.with_validation
    assert sorted(found.scored.tolist()) == list(range(240)), "each row is scored once"


def test_a_validation_split_of_its_own_stays_out() -> None:
    found = trial_rows(splits(210, 30, is_cut=False), 1_000, 1)
    check(found)
    assert found.in_folds
    assert not found.with_validation
    assert all(text.startswith("train") for text in found.examples.texts)


def test_many_rows_are_fitted_in_growing_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLDED_ROWS", 500)
    monkeypatch.setattr(module, "HELD_OUT", 100)
    monkeypatch.setattr(module, "FEWEST_ROWS", 20)
    found = trial_rows(splits(600, 300), 30, 1)
    check(found)
    assert not found.in_folds
    assert not found.with_validation
    assert [len(step.fitted) for step in found.steps] == [30, 90, 270]
    assert all((step.scored == found.steps[0].scored).all() for step in found.steps)
    assert len(found.examples) < 600, "rows that no trial reads are left out"


def test_more_trials_afford_fewer_rows() -> None:
    assert affordable_rows(1e6, 80, 10, in_folds=False) < affordable_rows(1e6, 40, 10, in_folds=False)
    assert affordable_rows(1e6, 40, 10, in_folds=True) > affordable_rows(1e6, 40, 10, in_folds=False)
