"""The parts of the page that a run may lack: facts in, what the template prints out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_LABEL_ROWS = 50
MAX_TEXT = 600  # characters of one example
UNEVEN = 1.5  # largest label over smallest, above which accuracy alone misleads
STRONG = 0.5  # share of an example's strongest word from which a word counts as strong
FAIR = {
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "mcc": "MCC",
    "pr_auc": "PR-AUC",
}
MANY = {"micro_f1": "Micro F1", "macro_f1": "Macro F1", "map": "mAP"}


@dataclass(frozen=True)
class Capped:
    """The first of many rows, and how many more there are."""

    rows: list[Any]
    more: int


@dataclass(frozen=True)
class Word:
    """A piece of a text and whether it spoke "for" or "against" the predicted label, or neither; `strong` is 0 or 1."""

    text: str
    side: str
    strong: bool


def headline_columns(metrics: Mapping[str, Any], multi_label: bool) -> dict[str, str]:
    """The figures that stand beside accuracy, by their key: none when labels are about even."""
    if multi_label:
        return {key: name for key, name in MANY.items() if metrics.get(key) is not None}
    sizes = [one["n"] for one in metrics["per_label"].values() if one["n"]]
    if not sizes or max(sizes) <= UNEVEN * min(sizes):
        return {}
    return {key: name for key, name in FAIR.items() if metrics.get(key) is not None}


def worst_labels(metrics: Mapping[str, Any]) -> Capped:
    """Labels with their figures, all in their own order, or of too many those with the lowest F1."""
    rows = list(metrics["per_label"].items())
    if len(rows) > MAX_LABEL_ROWS:
        rows.sort(key=lambda row: (row[1]["f1"] if row[1]["n"] else 2.0, row[0]))
    return capped(rows)


def capped(rows: Sequence[Any], limit: int = MAX_LABEL_ROWS) -> Capped:
    """At most `limit` rows.

    >>> capped([1, 2, 3], 2)
    Capped(rows=[1, 2], more=1)
    """
    return Capped(list(rows[:limit]), max(0, len(rows) - limit))


def shorten(text: str, limit: int = MAX_TEXT) -> str:
    """The beginning of a text that is too long for the page.

    >>> shorten("a b c d", 4)
    'a b…'
    """
    return text if len(text) <= limit else text[:limit].rstrip() + "…"


def example(found: Mapping[str, Any]) -> dict[str, Any]:
    """An error or an unsure example, shortened, with its words as spans where they were measured."""
    words = found.get("words")
    text = shorten(found["text"])
    return {**found, "text": text, "words": _words(words) if words else [Word(text, "", False)]}


def _words(words: Sequence[tuple[str, float]]) -> list[Word]:
    strongest = max((abs(value) for _, value in words), default=0.0)
    found, room = [], MAX_TEXT
    for text, value in words:
        share = value / strongest if strongest else 0.0
        side = "" if abs(share) < 0.1 else "for" if share > 0 else "against"
        found.append(Word(shorten(text, room), side, abs(share) >= STRONG))
        room -= len(text)
        if room < 0:
            break
        if room == 0:
            return [*found, Word("…", "", False)] if len(found) < len(words) else found
    return found
