"""The report of a run: one self-contained HTML file.

    facts (plain dict) ──► view: the content and its order ──► report.html.jinja ──► report.html

All text is escaped, labels and paths too; the page has no script and fetches nothing. Metrics come from
`Metrics.to_json`, curves from `draw_curves`. A section without facts is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from lasttoken.core.metric_registry import METRICS, headline_of
from lasttoken.evaluation.baselines import BASELINES
from lasttoken.evaluation.tasks.choice import task_class
from lasttoken.report.choice import choice_table
from lasttoken.report.ngrams import ngram_table
from lasttoken.report.search import search_table
from lasttoken.report.sections import capped, complete, example, headline_columns, pr_caption, shorten, worst_labels

MAX_MATRIX_LABELS = 20  # above, the most confused pairs replace the confusion matrix
MAX_PAIRS = 20
MAX_EXAMPLES = 50  # errors, and unsure examples, that are shown
N_SHADES = 5
MAX_FLAT_ROWS = 20  # rows of a table above which it scrolls
OPTIONAL = ("warnings", "audit", "calibration", "decision", "learning_curve", "repeats", "command")
BYLINE = {"backbone": "backbone ", "data": "data ", "created": "", "lasttoken": "lasttoken "}
NO_BASELINE = "There is no baseline to compare with: none was measured on these examples."
STOPPED = {
    "interrupted": "The training was interrupted. The metrics are those of the weights that were kept until then.",
    "early": "The training stopped early: validation did not improve for as many evaluations as --patience allows.",
}


@dataclass(frozen=True)
class Rival:
    """A row of the first table: a classifier's headline metric with its interval, on the headline split."""

    name: str
    value: float  # of the headline metric
    low: float
    high: float
    metrics: Mapping[str, Any]  # for the other columns


@dataclass(frozen=True)
class ConfusedPair:
    """How often one label was predicted for another; `share` is the fraction of the examples of the true label."""

    true: str
    predicted: str
    n: int
    share: float


def render_report(facts: Mapping[str, Any]) -> str:
    """The page as one string of HTML.

    Args:
        facts: JSON-like. Needed: `title` and `headline` {"split", "metrics"}; the rest may be absent or empty:
            `run` {"created", "lasttoken", "backbone", "data", "stopped": None | "interrupted" | "early",
            "kept": "the weights of …"},
            `splits` {name: metrics}, `baselines` {name: {split: metrics}}, `baseline_notes` [sentence],
            `data` {"counts": {split: {label: n}}, "rows": {split: n}, "notes": [sentence],
            "shared_with_train": {split: n}, "tokens": {"longest_train", "cut_texts", "cut_tokens"}},
            `settings`, `versions`, `timing_s` {name: value},
            `curves` {"loss": svg, "accuracy": svg}. Metrics are what `Metrics.to_json` gives.

    Raises:
        KeyError: title or headline is absent.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "percent": percent,
        "number": number,
        "seconds": seconds,
        "setting": setting,
        "shorten": shorten,
    }
    environment.globals |= {
        "n_shades": N_SHADES,
        "max_flat_rows": MAX_FLAT_ROWS,
        "baseline_entries": [entry for entry in BASELINES.values() if entry.fit is not None],
    }
    source = files("lasttoken.report").joinpath("report.html.jinja").read_text("utf-8")
    page = environment.from_string(source).render(_view(facts))
    return page.encode("utf-8", "replace").decode("utf-8")  # JSON can hold a lone surrogate, UTF-8 cannot


def percent(part: float) -> str:
    """A fraction in percent with one decimal; 100 % only if it is exactly 1.

    >>> percent(0.98333), percent(0.9999), percent(1.0)
    ('98.3\\xa0%', '99.9\\xa0%', '100\\xa0%')
    """
    return "100\N{NO-BREAK SPACE}%" if part >= 1 else f"{min(part, 0.999) * 100:.1f}\N{NO-BREAK SPACE}%"


def number(value: float | None, digits: int = 3) -> str:
    """A count with thousands separators, another number with `digits` decimals, a dash for None.

    >>> number(5574), number(0.08219), number(None)
    ('5,574', '0.082', '–')
    """
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def seconds(value: float) -> str:
    """A duration in seconds, or in minutes and seconds.

    >>> seconds(0.0312), seconds(42.13), seconds(754)
    ('0.03 s', '42.1 s', '12 min 34 s')
    """
    if value < 10:
        return f"{value:.2f} s"
    return f"{value:.1f} s" if value < 60 else f"{int(value // 60)} min {int(value % 60)} s"


def setting(value: Any) -> str:
    """The value of a setting, in TOML's form where it has one.

    >>> setting(4.5000000000000004e-4), setting(True), setting(["Subject", "Body"]), setting(None)
    ('0.00045', 'true', 'Subject, Body', 'not set')
    """
    if value is None:
        return "not set"
    if isinstance(value, list | tuple):
        return ", ".join(setting(element) for element in value) or "not set"
    if isinstance(value, float):
        return f"{value:.10g}"
    return json.dumps(value) if isinstance(value, bool | int) else str(value)


def _view(facts: Mapping[str, Any]) -> dict[str, Any]:
    task = task_class(bool(facts.get("multi_label")))
    split, metrics = facts["headline"]["split"], complete(facts["headline"]["metrics"], task)
    baselines: Mapping[str, Mapping[str, Any]] = {
        name: {split: complete(values, task) for split, values in by_split.items()}
        for name, by_split in (facts.get("baselines") or {}).items()
    }
    key = headline_of(metrics)
    ours = _rival("this classifier", metrics, key)
    rivals = [_rival(name, by_split[split], key) for name, by_split in baselines.items() if split in by_split]
    confusion = metrics.get("confusion")
    run = facts.get("run") or {}
    data = facts.get("data") or {}
    return {
        "title": facts["title"],
        "task": task,
        "byline": [before + str(run[key]) for key, before in BYLINE.items() if run.get(key)],
        "kept": run.get("kept") or "",
        "stopped": STOPPED.get(run.get("stopped") or ""),
        "split": split,
        "metrics": metrics,
        "ours": ours,
        "rivals": [ours, *sorted(rivals, key=lambda rival: -rival.value)],
        "verdict": (facts.get("verdict") or {}).get("sentences") or ([] if rivals else [NO_BASELINE]),
        "best": _best(rivals, (facts.get("verdict") or {}).get("baseline")),
        "pr_caption": pr_caption(facts.get("pr_curve") or {}),
        "headline_name": METRICS[key].full_title,
        "accuracy_name": METRICS[task.accuracy_metric].full_title,
        "columns": headline_columns(metrics, task),
        "unleaked": _unleaked(facts, split),
        "per_label": worst_labels(metrics),
        "errors": [example(row) for row in (facts.get("errors") or [])[:MAX_EXAMPLES]],
        "unsure": [example(row) for row in (facts.get("unsure") or [])[:MAX_EXAMPLES]],
        "slices": capped(facts.get("slices") or []),
        "data": data,
        **{key: facts.get(key) for key in OPTIONAL},
        **_choice(facts),
        "counts": _counts(data.get("counts") or {}),
        "data_sentences": _data_sentences(data),
        "curves": {name: Markup(svg) for name, svg in (facts.get("curves") or {}).items()},
        "splits": {name: complete(values, task) for name, values in (facts.get("splits") or {}).items()},
        "baselines": baselines,
        "baseline_notes": facts.get("baseline_notes") or [],
        "confusion": _matrix(metrics) if confusion and len(metrics["labels"]) <= MAX_MATRIX_LABELS else None,
        "pairs": most_confused(metrics),
        "settings": facts.get("settings") or {},
        "versions": facts.get("versions") or {},
        "timing": facts.get("timing_s") or {},
    }


def _choice(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What was chosen, and how the head of a logistic regression was found."""
    is_path = bool(facts.get("is_path"))
    return {
        "choice": choice_table(facts["choice"]) if facts.get("choice") else None,
        "ngrams": ngram_table(facts.get("ngrams")),
        "search": search_table(facts.get("search")),
        "is_path": is_path,
        "curve_axis": "the values of C" if is_path else "epochs and examples seen",
    }


def _rival(name: str, metrics: Mapping[str, Any], key: str) -> Rival:
    low, high = metrics.get(f"{key}_ci95") or (metrics[key], metrics[key])
    return Rival(name, metrics[key], low, high, metrics)


def _best(rivals: Sequence[Rival], name: str | None) -> Rival | None:
    """The baseline of the verdict, otherwise the one with the highest headline metric."""
    named = [rival for rival in rivals if rival.name == name]
    return max(named or rivals, key=lambda rival: rival.value, default=None)


def _unleaked(facts: Mapping[str, Any], split: str) -> Mapping[str, Any] | None:
    """The metrics without the examples that have a near-duplicate in train, if there are such examples."""
    unleaked: Mapping[str, Any] | None = (facts.get("unleaked") or {}).get(split)
    return unleaked if unleaked and unleaked["n"] != facts["headline"]["metrics"]["n"] else None


def _counts(counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """A table of counts: labels by splits, in order of first occurrence."""
    labels = list(dict.fromkeys(label for by_label in counts.values() for label in by_label))
    totals = {split: sum(by_label.values()) for split, by_label in counts.items()}
    rows = [(label, [by_label.get(label, 0) for by_label in counts.values()]) for label in labels]
    return {"splits": list(counts), "labels": capped(rows), "totals": list(totals.values())}


def _data_sentences(data: Mapping[str, Any]) -> list[str]:
    sentences = [str(note) for note in data.get("notes") or []]
    for split, n in (data.get("shared_with_train") or {}).items():
        total = (data.get("rows") or {}).get(split) or sum((data.get("counts") or {}).get(split, {}).values())
        of = f" of {total:,}" if total else ""
        sentences.append(
            f"Texts of {split} that are also in train: {n:,}{of}{', which makes its metrics optimistic' if n else ''}."
        )
    tokens = data.get("tokens") or {}
    if tokens.get("longest_train") is not None:
        sentences.append(f"The longest train text has {tokens['longest_train']:,} tokens.")
    if tokens.get("cut_texts"):
        sentences.append(
            f"Texts that were too long: {tokens['cut_texts']:,}, truncated by {tokens['cut_tokens']:,} tokens in all."
        )
    elif "cut_texts" in tokens:
        sentences.append("No text was truncated.")
    return sentences


def _matrix(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each true label; each cell has its count and a shade from 0 to N_SHADES by its fraction of the row."""
    return [
        {
            "label": label,
            "n": sum(counts),
            "cells": [
                {"n": n, "hit": i == j, "shade": -(-n * N_SHADES // max(1, sum(counts)))} for j, n in enumerate(counts)
            ],
        }
        for i, (label, counts) in enumerate(zip(metrics["labels"], metrics["confusion"], strict=True))
    ]


def most_confused(metrics: Mapping[str, Any], limit: int = MAX_PAIRS) -> list[ConfusedPair]:
    """The pairs of labels with the most errors, by count and then by the fraction of the true label."""
    labels, confusion = metrics["labels"], metrics.get("confusion")
    cells = metrics.get("confused") or [
        (i, j, n) for i, counts in enumerate(confusion or []) for j, n in enumerate(counts) if i != j and n
    ]
    of = [metrics["per_label"][label]["n"] for label in labels] if not confusion else [sum(row) for row in confusion]
    pairs = [ConfusedPair(labels[i], labels[j], n, n / of[i]) for i, j, n in cells]
    return sorted(pairs, key=lambda pair: (-pair.n, -pair.share))[:limit]
