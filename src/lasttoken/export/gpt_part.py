"""The part of a classifier that other formats hold: its GPT. n-grams have no place in them.

    GPT and n-grams ─► --without-ngrams ─► the GPT, with the temperature and the decision rule fitted for it alone

The metrics of the GPT alone were measured by the training, on the same rows as those of the whole classifier; an
export's model card states them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lasttoken.classifier.predict import Predictor
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.errors import SettingsError
from lasttoken.core.metric_registry import metrics_at

FLAG = "--without-ngrams"


def load_gpt_part(run: Path, without_ngrams: bool) -> Predictor:
    """Load a run's classifier to export it, in float32 on the CPU.

    Raises:
        SettingsError: it contains n-grams and `without_ngrams` is false.
        RunError: `run` is not a finished run.
    """
    predictor = Predictor.load(run, "cpu", "float32")
    blend = predictor.classifier.config.blend
    if blend is not None and not without_ngrams:
        raise SettingsError(
            f"the classifier of {run} is {blend.in_words()}, and an export holds the GPT alone; pass {FLAG} to export "
            "that part, with its own temperature and metrics"
        )
    predictor.classifier.without_ngrams()
    return predictor


def metrics_of_gpt(run: Path) -> dict[str, Any] | None:
    """The metrics of the GPT alone by split, which the training of a blend measured; None of other runs."""
    recorded = RunDir(run).read_metrics().get("ngrams") or {}
    alone = recorded.get("gpt_alone") if isinstance(recorded, dict) else None
    splits = alone.get("splits") if isinstance(alone, dict) else None
    return splits if isinstance(splits, dict) else None


def card_of_gpt(card: str, splits: Mapping[str, Mapping[str, Any]]) -> str:
    """A model card whose metrics, in its metadata and its text, are those of the GPT alone."""
    card = re.sub(r"(?m)^model-index: .*$", lambda line: _index(line[0], splits), card, count=1)
    section = "\n\n".join(["## Metrics", _ABOUT, _table(splits)]) + "\n\n"
    card = re.sub(r"(?ms)^## Calibration\n.*?(?=^## |\Z)", "", card, count=1)
    card = re.sub(r"(?ms)^## n-grams\n.*?(?=^## |\Z)", "", card, count=1)
    return re.sub(r"(?ms)^## Metrics\n.*?(?=^## |\Z)", lambda _: section, card, count=1)


_ABOUT = (
    "This is the GPT part of a classifier that also contains n-grams. The metrics are those of this part alone; 95 % "
    "intervals in parentheses."
)


def _index(line: str, splits: Mapping[str, Mapping[str, Any]]) -> str:
    """The metadata line with the metrics of the GPT; the line is JSON, as card.py writes it."""
    name, _, content = line.partition(": ")
    index = json.loads(content)
    for model in index:
        for result in model["results"]:
            metrics = splits.get(result["dataset"]["split"], {})
            result["metrics"] = [
                {**each, "value": metrics[each["type"]]}
                for each in result["metrics"]
                if metrics.get(each["type"]) is not None
            ]
    return f"{name}: {json.dumps(index)}"


def _table(splits: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        f"| {metric.full_title} | "
        + " | ".join(metric.formatted(each, percent=False) for each in splits.values())
        + " |"
        for metric in metrics_at("card")
        if all(each.get(metric.name) is not None for each in splits.values())
    ]
    return "\n".join(["| Metric | " + " | ".join(splits) + " |", "|---" * (1 + len(splits)) + "|", *rows])
