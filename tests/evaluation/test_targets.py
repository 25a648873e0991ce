"""Thresholds for targets: chosen as an exhaustive search would choose them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lasttoken.evaluation.decision_flags import Target
from lasttoken.evaluation.targets import Reached, TargetResult, threshold_for

ROWS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.05, 0.2, 0.4, 0.5, 0.7, 0.9, 0.99])), min_size=1, max_size=12
)


def figures_at(threshold: float, has: np.ndarray, probs: np.ndarray) -> dict[str, float]:
    given_rows = probs >= threshold
    hits = (has & given_rows).sum()
    return {"precision": hits / max(given_rows.sum(), 1), "recall": hits / max(has.sum(), 1)}


@given(ROWS, st.sampled_from(["precision", "recall"]), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_no_other_threshold_does_better(rows: list[tuple[bool, float]], metric: str, least: float) -> None:
    has, probs = (np.array(column) for column in zip(*rows, strict=True))
    found = threshold_for(Target(1, metric, least), has, probs)
    if not has.any():
        assert found is None
        return
    assert found is not None
    ours = figures_at(found, has, probs)
    other = "recall" if metric == "precision" else "precision"
    for threshold in np.unique(probs) - 1e-6:
        theirs = figures_at(threshold, has, probs)
        if ours[metric] >= least:
            assert theirs[metric] < least or theirs[other] <= ours[other]
        else:
            assert theirs[metric] <= ours[metric]


def test_the_result_says_whether_the_target_is_reached() -> None:
    low, high = Reached(0.8, (0.6, 0.9), 20), Reached(0.95, (0.9, 0.98), 40)
    target = Target(1, "precision", 0.9)
    result = TargetResult("spam", target, 0.7, {"validation": high, "test": low})
    assert result.is_reached
    assert all(words in result.sentence() for words in ("95.0%", "80.0%", "60.0 to 90.0", "test"))
    assert result.to_json()["splits"]["test"] == {"value": 0.8, "ci95": [0.6, 0.9], "n": 20}
    missed = TargetResult("spam", target, 0.7, {"validation": low})
    assert not missed.is_reached
    assert "validation" in missed.sentence()
    assert missed.sentence() != TargetResult("spam", target, 0.7, {"validation": high}).sentence()
    assert "no row of this label" in TargetResult("spam", target, None, {"validation": low}).sentence()
