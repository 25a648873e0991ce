"""The sample size of McNemar's test against simulated test sets, and its words."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, chi2

from lasttoken.evaluation.intervals import paired_difference
from lasttoken.evaluation.sample_size import rows_in_words, rows_to_tell_apart

SIMULATED = 20_000  # test sets; the standard error of a power of 0.8 is 0.003


def exact_power(only_a: float, only_b: float, n_rows: int) -> float:
    """How often McNemar's exact test, with scipy's binomial, finds the difference in test sets of n_rows."""
    random = np.random.default_rng(0)
    counts = random.multinomial(n_rows, (only_a, only_b, 1 - only_a - only_b), SIMULATED)
    n_either = counts[:, 0] + counts[:, 1]
    p_values = np.minimum(1, 2 * binom.cdf(np.minimum(counts[:, 0], counts[:, 1]), n_either, 0.5))
    return float((p_values < 0.05).mean())


FRACTIONS = [(3 / 80, 1 / 80), (0.025, 0.0), (0.1, 0.05), (0.1, 0.08), (0.2, 0.02), (0.3, 0.2), (0.02, 0.01)]


@pytest.mark.parametrize(("only_a", "only_b"), FRACTIONS)
def test_the_exact_test_has_about_80_percent_power(only_a: float, only_b: float) -> None:
    n_rows = rows_to_tell_apart(only_a, only_b)
    assert n_rows
    assert 0.75 < exact_power(only_a, only_b, n_rows) < 0.87
    assert exact_power(only_a, only_b, n_rows // 2) < 0.65  # half the rows are too few


def test_connor_s_condition_holds() -> None:
    """At n, the expected difference is z₉₅ standard errors of no difference plus z₈₀ of the true one."""
    z_95, z_80 = np.sqrt(chi2.ppf(0.95, 1)), 0.8416212
    for only_a, only_b in FRACTIONS:
        either, ahead = only_a + only_b, only_a - only_b
        n_rows = rows_to_tell_apart(only_a, only_b)
        assert n_rows
        bound = [
            z_95 * np.sqrt(either / n) + z_80 * np.sqrt((either - ahead**2) / n) for n in (n_rows - 1.01, n_rows + 0.01)
        ]
        assert bound[1] <= ahead < bound[0]


@pytest.mark.parametrize(("only_a", "only_b", "neither"), [(3, 1, 76), (6, 1, 73), (12, 6, 500), (3, 0, 77)])
def test_more_rows_are_needed_than_failed_to_tell(only_a: int, only_b: int, neither: int) -> None:
    rows = np.repeat([[True, False], [False, True], [True, True]], (only_a, only_b, neither), axis=0)
    difference = paired_difference(rows[:, 0], rows[:, 1])
    assert difference.ci95[0] <= 0 < difference.value
    needed = rows_to_tell_apart(only_a / len(rows), only_b / len(rows), difference.design_effect)
    assert needed
    assert needed > len(rows)


def test_copies_count_as_one_row() -> None:
    once, twice = rows_to_tell_apart(0.1, 0.05), rows_to_tell_apart(0.1, 0.05, 2.0)
    assert once
    assert twice
    assert 2 * once - 2 <= twice <= 2 * once


@pytest.mark.parametrize(("only_a", "only_b"), [(0.0, 0.0), (0.1, 0.1), (0.05, 0.1)])
def test_a_classifier_that_is_not_ahead_needs_no_rows(only_a: float, only_b: float) -> None:
    assert rows_to_tell_apart(only_a, only_b) is None


@pytest.mark.parametrize(
    ("n_rows", "words"),
    [
        (9, "about 9"),
        (51, "about 51"),
        (626, "about 630"),
        (991, "about 1,000"),
        (100_000, "about 100,000"),
        (100_001, "more than 100,000"),
        (10**9, "more than 100,000"),
    ],
)
def test_numbers_are_rounded_up_to_two_digits(n_rows: int, words: str) -> None:
    assert rows_in_words(n_rows) == words
