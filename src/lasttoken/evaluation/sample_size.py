"""The number of rows that would be needed to tell two classifiers apart.

    the fraction of rows on which only A is right ┐
                                                  ├──► rows_to_tell_apart ──► about 630 rows
    the fraction of rows on which only B is right ┘

Connor, "Sample size for testing differences in proportions for the paired-sample design", Biometrics 43 (1987)
207-211. Lachin, "Power and sample size evaluation for the McNemar test with application to matched case-control
studies", Statistics in Medicine 11 (1992) 1239-1251, compares this formula with others.
"""

from __future__ import annotations

import math

from lasttoken.evaluation.intervals import Z_95

Z_POWER = 0.841621  # 80 % point of the normal distribution: the difference is found in 80 % of the test sets
MOST_STATED = 100_000  # a larger estimate is not written out: it only says that no test set will do


def rows_to_tell_apart(only_a: float, only_b: float, design_effect: float = 1.0) -> int | None:
    """The rows for which McNemar's test at 95 % confidence has 80 % power, if the two fractions are the true ones.

    With ψ = only_a + only_b and δ = only_a - only_b: (z₉₅ √ψ + z₈₀ √(ψ - δ²))² / δ², times the design effect. None
    where A is not ahead of B.

    >>> rows_to_tell_apart(3 / 80, 1 / 80)
    626

    Args:
        only_a, only_b: the fractions of the rows that only A, and only B, predicts correctly.
        design_effect: by how much copies among the rows raise the variance; see `paired_difference`.
    """
    either, ahead = only_a + only_b, only_a - only_b
    if ahead <= 0:
        return None
    root = Z_95 * math.sqrt(either) + Z_POWER * math.sqrt(max(0.0, either - ahead * ahead))
    return math.ceil(design_effect * (root / ahead) ** 2)


def rows_in_words(n_rows: int) -> str:
    """A number of rows with two significant digits, rounded up: an estimate is not more precise.

    >>> rows_in_words(626), rows_in_words(4394), rows_in_words(250_000)
    ('about 630', 'about 4,400', 'more than 100,000')
    """
    if n_rows > MOST_STATED:
        return f"more than {MOST_STATED:,}"
    unit = 10 ** max(0, len(str(n_rows)) - 2)
    return f"about {-(-n_rows // unit) * unit:,}"
