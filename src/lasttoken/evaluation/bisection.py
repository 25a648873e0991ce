"""Where a falling function crosses zero, by bisection.

Not `scipy.optimize.bisect`: it computes its midpoints in another way, so that the last digit of temperatures and
intervals would differ from that of earlier versions, and runs could no longer be compared bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable


def bracket(falling: Callable[[float], float], low: float, high: float, n_steps: int) -> tuple[float, float]:
    """The part of [low, high], 2^n_steps times as narrow, in which `falling` goes from above 0 to 0 or below.

    Where it is above 0 everywhere, the upper end; where nowhere, the lower end.

    >>> bracket(lambda x: 1 - x, 0.0, 8.0, 3)
    (0.0, 1.0)
    """
    for _ in range(n_steps):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return low, high
