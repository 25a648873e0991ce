"""Thresholds that are fitted on validation rows: the cut of probabilities at which an F1 is highest."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lasttoken.evaluation.confusion import ratio
from lasttoken.evaluation.decision import Decision
from lasttoken.evaluation.precision_recall import Ranking

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FEWEST_POSITIVES = 5  # rows that a label needs for a threshold of its own


def best_threshold(log_probs: ArrayLike, label_ids: NDArray[np.int64]) -> Decision:
    """The threshold for the rarer of two labels that maximises the mean of both labels' F1 on these rows.

    Only midpoints between the probabilities of two rows are tried; of equally good ones the nearest to 0.5 is taken.
    """
    rare = int(np.bincount(label_ids, minlength=2).argmin())
    p = np.exp(np.asarray(log_probs, dtype=np.float64))[:, rare]
    order = np.argsort(-p, kind="stable")
    is_rare = label_ids[order] == rare
    hits = np.concatenate(([0], np.cumsum(is_rare)))  # [N + 1]: the n most probable rows are given the rarer label
    n_given = np.arange(len(p) + 1)
    n_rare, n = int(is_rare.sum()), len(p)
    f1_rare = 2 * hits / np.maximum(n_given + n_rare, 1)
    hits_other = (n - n_rare) - (n_given - hits)
    f1_other = 2 * hits_other / np.maximum((n - n_given) + (n - n_rare), 1)
    sorted_p = np.concatenate(([1.0], p[order], [0.0]))
    cuts = (sorted_p[:-1] + sorted_p[1:]) / 2
    usable = (sorted_p[:-1] > sorted_p[1:]) & (cuts > 0) & (cuts < 1)
    score = np.where(usable, f1_rare + f1_other, -1.0)
    tied = np.flatnonzero(score >= score.max() - 1e-12)
    best = tied[np.abs(cuts[tied] - 0.5).argmin()]
    return Decision(thresholds=((rare, float(cuts[best])),)) if score[best] >= 0 else Decision()


def best_thresholds(targets: ArrayLike, probs: ArrayLike) -> Floats:
    """The threshold [K] of each label: the common one with the best micro-F1, or its own where that is better.

    A label's own threshold is the one with its highest F1 on these rows. It is used if it does not lower the micro-F1
    over all labels and if at least 5 rows have the label. Without the first condition a label that the classifier
    cannot predict would be given to every text, because that maximizes its F1 (Yang, "A study of thresholding
    strategies for text categorization", SIGIR 2001, on SCut). A threshold is the midpoint of two neighboring
    probabilities; of equally good ones the highest is taken.

    Args:
        targets: [N, K] bool, of rows that are used neither for training nor for the reported metrics.
        probs: [N, K].
    """
    truth, scores = np.asarray(targets, dtype=bool), np.asarray(probs, dtype=np.float64)
    chosen = np.full(truth.shape[1], _best_threshold(truth.ravel(), scores.ravel()))
    predicted = scores >= chosen
    hits, both = (truth & predicted).sum(axis=0), truth.sum(axis=0) + predicted.sum(axis=0)
    for label_id in np.flatnonzero(truth.sum(axis=0) >= FEWEST_POSITIVES).tolist():
        has, column = truth[:, label_id], scores[:, label_id]
        own = _best_threshold(has, column)
        predicted = column >= own
        its_hits, its_both = hits.copy(), both.copy()
        its_hits[label_id], its_both[label_id] = (has & predicted).sum(), has.sum() + predicted.sum()
        if ratio(its_hits.sum(), its_both.sum()) >= ratio(hits.sum(), both.sum()):
            chosen[label_id], hits, both = own, its_hits, its_both
    return chosen


def likely_threshold(has: Bools, scores: Floats) -> float:
    """A threshold for a rare label: the one with its highest F1 on these rows, but at most the highest probability.

    It is rounded down to two digits for use on a command line. If no row has the label, it is half of the highest
    probability.
    """
    highest = float(scores.max(initial=0.0))
    threshold = min(_best_threshold(has, scores), highest) if has.any() else highest / 2
    digits = 1 - math.floor(math.log10(max(threshold, 1e-12)))
    return math.floor(threshold * 10.0**digits) / 10.0**digits


def _best_threshold(has: Bools, scores: Floats) -> float:
    if not has.any():
        return 0.5
    ranking = Ranking.of(has, scores)
    hits, rows = ranking.counts()
    best = int(np.argmax(2 * hits / (rows + hits[-1])))
    falling = np.append(scores[ranking.order[ranking.ends]], 0.0)
    middle = (falling[best] + falling[best + 1]) / 2
    return float(middle if middle > falling[best + 1] else falling[best])
