"""Calibration: the expected calibration error (ECE), reliability bins, and the temperature that is fitted.

    rows by confidence ──► bins of equally many rows ──► |accuracy - mean confidence| of each, mean over rows = ECE
    logits / T         ──► T > 1 lowers confidences, T < 1 raises them; the ranking of labels stays the same

Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017; bins of equal mass as in
Nguyen and O'Connor, "Posterior calibration and exploratory analysis for natural language processing models", EMNLP
2015. The estimate of the ECE is biased upwards, by about √(2·accuracy·(1 - accuracy)·bins / π·N): with few rows a
perfectly calibrated classifier does not get 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lasttoken.evaluation.bisection import bracket
from lasttoken.evaluation.intervals import Interval, draw_weights, n_draws, wilson_interval

Floats = NDArray[np.float64]

N_BINS = 15
FEWEST_IN_BIN = 10  # with fewer than N_BINS × this many rows there are fewer bins
MAX_AT_ONCE = 20_000_000  # weights in memory
FEWEST_ROWS = 20  # to fit a temperature on
T_MIN, T_MAX = 0.05, 20.0


@dataclass(frozen=True)
class Bin:
    """`n` rows of similar confidence: their mean confidence, and their accuracy with its interval."""

    n: int
    confidence: float
    accuracy: float
    accuracy_ci95: Interval

    def to_json(self) -> dict[str, Any]:
        """Numbers and lists only."""
        return asdict(self) | {"accuracy_ci95": list(self.accuracy_ci95)}


def bin_starts(n: int, n_bins: int = N_BINS) -> NDArray[np.int64]:
    """The start of each bin of n rows; bins have equal sizes, the first ones one row more where n is not divisible."""
    n_bins = max(1, min(n_bins, n // FEWEST_IN_BIN))
    size, larger = divmod(n, n_bins)
    return np.array([i * size + min(i, larger) for i in range(n_bins)], dtype=np.int64)


def top_label(log_probs: ArrayLike, label_ids: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    """The probability of the most probable label of log_probs [N, K], and whether it is correct, both [N]."""
    scores = np.asarray(log_probs)
    predicted = scores.argmax(axis=1)
    confidence = np.exp(scores[np.arange(len(scores)), predicted].astype(np.float64))
    return confidence, predicted == np.asarray(label_ids)


def reliability_bins(log_probs: ArrayLike, label_ids: ArrayLike, n_bins: int = N_BINS) -> list[Bin]:
    """The bins of a reliability diagram, least confident first.

    Rows of equal confidence keep their order and may fall into different bins.
    """
    confidence, correct = top_label(log_probs, label_ids)
    order, starts = np.argsort(confidence, kind="stable"), bin_starts(len(confidence), n_bins)
    return [
        Bin(len(rows), float(confidence[rows].mean()), float(correct[rows].mean()), _wilson(correct[rows]))
        for rows in np.split(order, starts[1:])
    ]


def _wilson(correct: NDArray[np.bool_]) -> Interval:
    return wilson_interval(int(correct.sum()), len(correct))


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, n_bins: int = N_BINS) -> float:
    """The ECE of N confidences in [0, 1] and whether each was right: Σ over bins of n/N · |accuracy - confidence|."""
    gaps = gaps_by_bin(np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=bool), n_bins)
    return float(np.abs(gaps).sum())


def gaps_by_bin(
    confidence: Floats, correct: NDArray[np.bool_], n_bins: int = N_BINS, weights: NDArray[Any] | None = None
) -> Floats:
    """n/N · (accuracy - confidence) of each bin: [bins], or [bins, draws] for draws of row weights [N, draws]."""
    order = np.argsort(confidence, kind="stable")
    apart = (correct.astype(np.float64) - confidence)[order]
    rows = apart if weights is None else apart[:, None] * weights[order]
    return np.asarray(np.add.reduceat(rows, bin_starts(len(order), n_bins), axis=0) / len(order))


def ece_interval(confidence: Floats, correct: NDArray[np.bool_], strata: NDArray[np.int64], seed: int) -> Interval:
    """The interval of the ECE of N rows; rows of a stratum (a true label) are drawn among themselves.

    A plain bootstrap adds the noise of its draws to that of the rows, and both raise the ECE. So the test is inverted:
    if the true gaps were s times those observed, with the bootstrap's noise, for which s would the observed ECE lie in
    the middle 95 % of the draws? The interval is s × ECE.
    No ECE is smaller than the gap of all rows together, so the upper end reaches as far as Wilson's interval of the
    accuracy lets that gap be; that matters where few rows or none are wrong.
    """
    gaps = gaps_by_bin(confidence, correct)
    random, draws = np.random.default_rng(seed), n_draws(len(confidence))
    size = max(1, MAX_AT_ONCE // len(confidence))
    parts = (draw_weights(strata, min(size, draws - i), random) for i in range(0, draws, size))
    noise = np.hstack([gaps_by_bin(confidence, correct, weights=part) for part in parts]) - gaps[:, None]
    value = float(np.abs(gaps).sum())

    def share_below(scale: float) -> float:
        return float((np.abs(scale * gaps[:, None] + noise).sum(axis=0) <= value).mean())

    widest = max(abs(bound - float(confidence.mean())) for bound in _wilson(correct))
    return value * _scale_at(share_below, 0.975), max(value, widest, value * _scale_at(share_below, 0.025))


def _scale_at(share_below: Callable[[float], float], share: float) -> float:
    """The scale between 0 and 8 at which the falling `share_below` passes `share`; the upper end of its bracket."""
    low, high = bracket(lambda scale: share_below(scale) - share, 0.0, 8.0, 20)
    return high if low else 0.0


def fit_temperature(logits: ArrayLike, label_ids: ArrayLike) -> float:
    """The T between 0.05 and 20 for which softmax(logits / T) has the smallest cross-entropy.

    Args:
        logits: [N, K], or log-probabilities, which differ by a constant in each row.
        label_ids: [N] int, the truth.

    Returns:
        1.0 for fewer than 20 rows or rows of one label, which are too little evidence. If every row is correct, the
        loss is smallest at T = 0, which the rows do not justify; then T is at least 1.
    """
    scores, truth = np.asarray(logits, dtype=np.float64), np.asarray(label_ids, dtype=np.int64)
    if len(scores) < FEWEST_ROWS or len(np.unique(truth)) < 2:
        return 1.0
    scores = np.maximum(scores - scores.max(axis=1, keepdims=True), -1e4)  # a probability of 0 has a logit of -inf
    of_truth = scores[np.arange(len(scores)), truth]

    def slope(beta: float) -> float:
        weights = np.exp(beta * scores)
        return float(((weights * scores).sum(axis=1) / weights.sum(axis=1) - of_truth).mean())

    return _at_least_1(_best_temperature(slope), all_right=bool((of_truth == 0).all()))


def fit_temperature_multilabel(logits: ArrayLike, targets: ArrayLike) -> float:
    """The T between 0.05 and 20 for which sigmoid(logits / T) has the smallest binary cross-entropy.

    Args:
        logits: [N, K].
        targets: [N, K] bool.

    Returns:
        See `fit_temperature`; "one label" means here that all targets are true or all are false.
    """
    scores, truth = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=bool)
    if len(scores) < FEWEST_ROWS or truth.all() or not truth.any():
        return 1.0

    def slope(beta: float) -> float:
        return float((scores * (0.5 + 0.5 * np.tanh(beta * scores / 2) - truth)).mean())

    return _at_least_1(_best_temperature(slope), all_right=bool(((scores > 0) == truth).all()))


def _best_temperature(slope: Callable[[float], float]) -> float:
    """The T at which the slope of the loss in 1/T crosses 0; it rises, because the loss is convex in 1/T."""
    low, high = bracket(lambda log_beta: -slope(math.exp(log_beta)), math.log(1 / T_MAX), math.log(1 / T_MIN), 30)
    return float(np.clip(math.exp(-(low + high) / 2), T_MIN, T_MAX))


def _at_least_1(temperature: float, all_right: bool) -> float:
    return max(1.0, temperature) if all_right else temperature
