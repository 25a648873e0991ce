"""Bisection against scipy's root finder."""

from __future__ import annotations

import math

import pytest
from scipy.optimize import brentq

from lasttoken.evaluation.bisection import bracket


@pytest.mark.parametrize("root", [0.0, 0.3, 2.0, 7.99])
def test_the_bracket_holds_the_root(root: float) -> None:
    def falling(x: float) -> float:
        return math.exp(-x) - math.exp(-root)

    low, high = bracket(falling, -1.0, 9.0, 40)
    assert low <= brentq(falling, -1.0, 9.0, xtol=1e-12) + 1e-11
    assert high - low == pytest.approx(10 / 2**40)
    assert low - 1e-9 <= root <= high + 1e-9


def test_without_a_root_the_bracket_is_at_an_end() -> None:
    assert bracket(lambda x: 1.0, 0.0, 1.0, 30)[1] == 1.0
    assert bracket(lambda x: -1.0, 0.0, 1.0, 30)[0] == 0.0
