"""The n-grams that a classifier contains or that were tried, as a table for the page and the card.

metrics.json: ngrams {"kept", "kind", "weight", "held_out", "n", "gpt", "ngrams", "together", "candidates", "gpt_alone"}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lasttoken.core.metric_registry import METRICS


@dataclass(frozen=True)
class NgramTable:
    """The GPT, each kind of n-grams and their sum on held-out rows, and what the classifier is."""

    sentence: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def ngram_table(record: Mapping[str, Any] | None) -> NgramTable | None:
    """The table of a record; None where no weight was fitted.

    >>> values = {"accuracy": 0.9, "loss": 0.3}
    >>> table = ngram_table({"kept": True, "held_out": "validation", "n": 400, "gpt": values, "loss_fall": 0.02,
    ...                      "standard_error": 0.01, "in_words": "GPT and word n-grams, weights 0.70 : 0.30",
    ...                      "candidates": [{"kind": "words", "weight": 0.3, "ngrams": values, "together": values}]})
    >>> [row[0] for row in table.rows]
    ['GPT', 'word n-grams', 'GPT and word n-grams, 0.70 : 0.30']
    """
    if not record or "gpt" not in record:
        return None
    metrics = [METRICS[name] for name in record["gpt"]]

    def row(name: str, values: Mapping[str, Any]) -> tuple[str, ...]:
        return (name, *(metric.formatted(values) for metric in metrics))

    rows = [row("GPT", record["gpt"])]
    for each in record["candidates"]:
        kind = f"{each['kind'].removesuffix('s')} n-grams"
        weights = f"{1 - each['weight']:.2f} : {each['weight']:.2f}"
        rows += [row(kind, each["ngrams"]), row(f"GPT and {kind}, {weights}", each["together"])]
    return NgramTable(_sentence(record), ("classifier", *(metric.title for metric in metrics)), rows)


def _sentence(record: Mapping[str, Any]) -> str:
    where = f"on {record['n']:,} rows of {record['held_out']}"
    falls = f"by {record['loss_fall']:.4f} (standard error {record['standard_error']:.4f}) {where}"
    if not record["kept"]:
        return f"The classifier is a GPT alone: with n-grams its loss would change {falls}, which is too little."
    return (
        f"The classifier is {record['in_words']}. The weight was fitted {where}; the loss at the best temperature "
        f"falls {falls.removesuffix(' ' + where)}. The test split was not read."
    )
