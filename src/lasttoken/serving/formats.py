"""A model's scores of N texts as rows, which each interface writes in its own shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lasttoken.classifier.predict import PROBABILITY_DECIMALS
from lasttoken.serving.engine import Scores
from lasttoken.serving.models import ServedModel


@dataclass(frozen=True)
class Row:
    """One text's answer. `ranked`: (label, probability), the likeliest first."""

    label: str | None
    labels: list[str]
    score: float
    ranked: list[tuple[str, float]]
    n_tokens: int
    truncated: bool

    def by_label(self, names: Sequence[str]) -> list[float]:
        """The probabilities in the order of `names`."""
        probs = dict(self.ranked)
        return [probs[name] for name in names]


def rows_of(model: ServedModel, scores: Scores) -> list[Row]:
    """The answers to N texts, as `predict` gives them."""
    config, names = model.predictor.classifier.config, model.predictor.labels
    probs = np.exp(scores.log_probs.astype(np.float64)).round(PROBABILITY_DECIMALS)
    order = np.argsort(-probs, axis=1, kind="stable")  # of the rounded ones: a batch must not change the order
    given = config.task.given_label_ids(scores.log_probs, config.decision)
    return [
        Row(
            names[ids[0]] if ids else None,
            [names[label_id] for label_id in ids],
            row[ids[0] if ids else ranked[0]],
            [(names[label_id], row[label_id]) for label_id in ranked],
            n_tokens,
            cut,
        )
        for ids, ranked, row, n_tokens, cut in zip(
            given, order.tolist(), probs.tolist(), scores.n_tokens.tolist(), scores.cut.tolist(), strict=True
        )
    ]
