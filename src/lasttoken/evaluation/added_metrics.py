"""Metrics that have a function of their own in the registry, with intervals by the bootstrap of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.metric_registry import METRICS, Compute, Kind, metrics_at
from lasttoken.evaluation.intervals import percentile_interval

N_DRAWS = 200  # of the rows; each computes the metric once

Columns = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]  # truth, log-probabilities, predictions of N rows


def computed_metrics(kind: Kind, everything: bool) -> dict[str, Compute]:
    """The functions of the registry for such a task; unless `everything`, only of metrics that a training follows."""
    metrics = METRICS.values() if everything else metrics_at("history")
    return {metric.name: metric.compute for metric in metrics if metric.compute and kind in metric.kinds}


def added_metrics(
    computed: dict[str, Compute], columns: Columns, intervals: bool, seed: int = 0
) -> dict[str, float | Sequence[float]]:
    """The metrics as metrics.json holds them: name → value, and with `intervals` name_ci95 → bounds."""
    values: dict[str, float | Sequence[float]] = {}
    for name, compute in computed.items():
        value = float(compute(*columns))
        values[name] = value
        if intervals:
            random, n = np.random.default_rng(seed), len(columns[0])
            samples = [random.integers(0, n, n) for _ in range(N_DRAWS)]
            drawn = np.array([compute(*(column[rows] for column in columns)) for rows in samples])
            values[f"{name}_ci95"] = list(percentile_interval(drawn, value))
    return values
