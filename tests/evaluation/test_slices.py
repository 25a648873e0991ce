"""Accuracy by slice: worst first, without slices of few rows."""

from __future__ import annotations

import numpy as np

from lasttoken.evaluation.slices import length_quarters, slice_accuracy


def test_slices_are_worst_first_and_need_five_rows() -> None:
    keys = {"shop": ["a"] * 200 + ["b"] * 197 + ["c"] * 3}
    slices = slice_accuracy(np.arange(400) >= 50, keys)
    assert [(part.value, part.n, part.accuracy) for part in slices] == [("a", 200, 0.75), ("b", 197, 1.0)]


def test_lengths_are_in_four_ranges() -> None:
    assert len(set(length_quarters(["x" * n for n in range(40)]))) == 4
