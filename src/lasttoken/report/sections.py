"""Optional sections of the report: from facts to what the template prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lasttoken.core.metric_registry import Metric, metrics_at
from lasttoken.evaluation.tasks.task import Task

MAX_LABEL_ROWS = 50
MAX_LISTED = 20  # rows of each list of the audit
MAX_LINES = 8  # labels in the precision-recall plot
MAX_TEXT = 600  # characters of one example
UNEVEN = 1.5  # ratio of the largest to the smallest label, above which accuracy alone is misleading
WEAK = 0.1  # fraction of the strongest word's value below which a word is not marked
STRONG = 0.5  # fraction of the strongest word's value from which a word is bold


@dataclass(frozen=True)
class Capped:
    """The first rows of a list, and the number of rows left out."""

    rows: list[Any]
    n_left_out: int


@dataclass(frozen=True)
class MarkedWord:
    """A piece of a text, its side ("for" or "against" the predicted label, or ""), and whether its effect is strong."""

    text: str
    side: str
    strong: bool


def complete(metrics: Mapping[str, Any], task: type[Task]) -> dict[str, Any]:
    """Metrics with the entries that every table needs; `accuracy` is the task's `accuracy_metric`."""
    accuracy = metrics[task.accuracy_metric]
    bounds = metrics.get(f"{task.accuracy_metric}_ci95") or [accuracy, accuracy]
    per_label = metrics.get("per_label") or {}
    labels = metrics.get("labels") or list(per_label)
    return {**metrics, "accuracy": accuracy, "accuracy_ci95": bounds, "per_label": per_label, "labels": labels}


def drawn_labels(curves: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The labels whose curves are drawn: all, or those with the lowest average precision, the rarest first."""
    if len(curves) <= MAX_LINES:
        return list(curves)
    return sorted(curves, key=lambda label: (curves[label]["average_precision"] or 0.0, curves[label]["n"]))[:MAX_LINES]


def pr_caption(curves: Mapping[str, Mapping[str, Any]]) -> str:
    """The caption of the precision-recall plot: its labels and their average precision."""
    drawn = drawn_labels(curves)
    of = f"The {len(drawn)} of {len(curves):,} labels with the lowest a" if len(drawn) < len(curves) else "A"
    return f"{of}verage precision: " + ", ".join(
        f"{label} {curves[label]['average_precision'] or 0.0:.3f} ({curves[label]['n']:,} examples)" for label in drawn
    )


def headline_columns(metrics: Mapping[str, Any], task: type[Task]) -> list[Metric]:
    """The metrics beside the headline metric. Those for uneven labels are left out where labels are about even."""
    sizes = [values["n"] for values in metrics["per_label"].values() if values["n"]]
    uneven = task.always_uneven or (bool(sizes) and max(sizes) > UNEVEN * min(sizes))
    columns = [*(metrics_at("page of uneven labels") if uneven else []), *metrics_at("page")]
    return [metric for metric in columns if metrics.get(metric.name) is not None]


def worst_labels(metrics: Mapping[str, Any]) -> Capped:
    """Labels with their metrics: all in their own order, or of too many those with the lowest F1."""
    rows = list(metrics["per_label"].items())
    if len(rows) > MAX_LABEL_ROWS:
        rows.sort(key=lambda row: (row[1]["f1"] if row[1]["n"] else 2.0, row[0]))
    return capped(rows)


def capped(rows: Sequence[Any], limit: int = MAX_LABEL_ROWS) -> Capped:
    """At most `limit` rows.

    >>> capped([1, 2, 3], 2)
    Capped(rows=[1, 2], n_left_out=1)
    """
    return Capped(list(rows[:limit]), max(0, len(rows) - limit))


def shorten(text: str, limit: int = MAX_TEXT) -> str:
    """The beginning of a text that is too long for the page.

    >>> shorten("a b c d", 4)
    'a b…'
    """
    return text if len(text) <= limit else text[:limit].rstrip() + "…"


def example(facts: Mapping[str, Any]) -> dict[str, Any]:
    """An error or an uncertain example, shortened, with its words where they were measured."""
    words = facts.get("words")
    text = shorten(facts["text"])
    return {**facts, "text": text, "words": _words(words) if words else [MarkedWord(text, "", False)]}


def _words(words: Sequence[tuple[str, float]]) -> list[MarkedWord]:
    """The words that fit into MAX_TEXT characters; the last one may be cut."""
    strongest = max((abs(value) for _, value in words), default=0.0)
    spans, room = [], MAX_TEXT
    for text, value in words:
        share = value / strongest if strongest else 0.0
        side = "" if abs(share) < WEAK else "for" if share > 0 else "against"
        spans.append(MarkedWord(text[:room], side, abs(share) >= STRONG))
        if len(text) > room:
            return [*spans, MarkedWord("…", "", False)]
        room -= len(text)
    return spans
