"""What a training left open and chose, as a table for the page and the card.

metrics.json: choice {"candidates": [{"method", "depth", "read", "metric", "value", "loss", "seconds", …}], "chosen"}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lasttoken.core.metric_registry import METRICS


@dataclass(frozen=True)
class ChoiceTable:
    """The candidates in the order in which they were tried, the chosen one marked."""

    sentence: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    chosen: int  # the place of the chosen row


def choice_table(choice: Mapping[str, Any]) -> ChoiceTable:
    """The table of a choice.

    >>> chosen = {"method": "linear", "depth": 2, "read": "mean", "metric": "accuracy", "value": 0.9, "loss": 0.3,
    ...           "seconds": 0.1, "C": 0.01}
    >>> table = choice_table({"candidates": [chosen], "chosen": chosen, "metric": "accuracy", "held_out": "validation",
    ...                       "seconds": 1.0, "trunk_s": 0.9, "reason": "the best"})
    >>> table.rows
    [('linear', '2', 'mean', '0.01', '90.00%', '0.300', '0.1')]
    """
    metric, chosen, candidates = METRICS[choice["metric"]], choice["chosen"], choice["candidates"]
    others = () if metric.name == "loss" else (metric.title,)
    header = ("method", "depth", "pooling", "C", *others, "loss", "seconds")
    sentence = (
        f"The settings left depth, pooling or method open. Chosen on {choice['held_out']}: {choice['reason']}. "
        "The loss is that at the best temperature. The test split was not read. The features of all depths took "
        f"{choice['trunk_s']:.1f} s."
    )

    def row(candidate: Mapping[str, Any]) -> tuple[str, ...]:
        start = " (from the labels' words)" if candidate.get("label_words") else ""
        strength = f"{candidate['C']:g}" if candidate.get("C") else "–"
        values = [metric.formatted({metric.name: candidate["value"]})] if others else []
        method = f"LoRA of rank {candidate['lora_rank']}" if candidate.get("lora_rank") else candidate["method"]
        cells = (method + start, str(candidate["depth"]), candidate["read"], strength)
        return (*cells, *values, f"{candidate['loss']:.3f}", f"{candidate['seconds']:.1f}")

    place = next((place for place, each in enumerate(candidates) if each == chosen), 0)
    return ChoiceTable(sentence, header, [row(candidate) for candidate in candidates], place)
