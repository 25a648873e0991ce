"""The rule by which the settings that a search found replace the default ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from lasttoken.runs.search.decision import LEVEL, decide


@pytest.mark.parametrize(("n_trials", "n_rows"), [(1, 60), (39, 60), (39, 400)])
def test_where_nothing_can_be_found_at_most_one_search_of_twenty_finds_something(n_trials: int, n_rows: int) -> None:
    """The best of many trials that differ from the default by noise alone: the winner's curse."""
    rng, n_searches = np.random.default_rng(5), 400
    kept = 0
    for _ in range(n_searches):
        rows = rng.gamma(1.0, size=n_rows)
        default = rows + rng.normal(0, 0.3, n_rows)
        trials = rows + rng.normal(0, 0.3, (n_trials, n_rows))
        best = trials[trials.mean(1).argmin()]
        kept += decide(default, best, held_out="folds", n_compared=n_trials).takes_found
    assert kept / n_searches <= LEVEL + 2 * np.sqrt(LEVEL * (1 - LEVEL) / n_searches)


def test_without_the_number_of_trials_the_rule_would_be_fooled() -> None:
    rng = np.random.default_rng(5)
    fooled = 0
    for _ in range(100):
        default, trials = rng.normal(size=100), rng.normal(size=(39, 100))
        best = trials[trials.mean(1).argmin()]
        fooled += decide(default, best, held_out="validation").takes_found
    assert fooled > 30


def test_one_comparison_is_a_paired_t_test() -> None:
    rng = np.random.default_rng(2)
    for shift in (0.05, 0.12, 0.2, 0.3):
        default = rng.gamma(1.0, size=90)
        found = default - shift + rng.normal(0, 0.6, 90)
        p_value = ttest_rel(default, found, alternative="greater").pvalue
        assert decide(default, found, held_out="validation").takes_found == (p_value < LEVEL)


def test_another_metric_has_to_agree_and_equal_settings_change_nothing() -> None:
    losses = np.linspace(0, 1, 50)
    assert not decide(losses, losses, held_out="validation").takes_found
    assert decide(losses + 1, losses, held_out="validation").takes_found
    assert not decide(losses + 1, losses, held_out="validation", metric_agrees=False).takes_found


def test_the_words_have_the_numbers() -> None:
    words = decide(np.full(200, 0.5), np.full(200, 0.4), held_out="validation").in_words()
    assert "200 held-out rows (validation)" in words
    assert "0.100 lower" in words
