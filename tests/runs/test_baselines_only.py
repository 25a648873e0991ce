"""The baselines of a data set from Python, without a training."""

from __future__ import annotations

from miniature import messages

from lasttoken.core.resolve import resolve
from lasttoken.data.frames import from_lists
from lasttoken.runs.baselines_only import measure_baselines


def test_baselines_are_measured_on_every_split_and_there_is_no_classifier() -> None:
    metrics = measure_baselines(from_lists(*messages(40)), resolve())
    assert metrics["splits"] == {}
    assert {"majority", "tfidf-logreg"} <= metrics["baselines"].keys()
    assert metrics["baselines"]["majority"]["test"]["n"] == 8
