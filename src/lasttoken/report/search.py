"""The trials of a search for the page: a table of the best, and slices, one plot for each setting.

metrics.json: search {"sentence", "evidence", "metric", "trials": [{"number", "state", "value", "loss", "seconds",
                      "settings", "is_default"}], "importances": {parameter: share}, "best": number, …}

A slice has the value of each trial against one setting. Trials that were ended early saw fewer rows, so their values
are not comparable with those of finished ones; they are drawn hollow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullFormatter

from lasttoken.core.metric_registry import METRICS

MOST_SHOWN = 12  # trials in the table; all are in trials.csv
LEAST_SHOWN = 0.01  # of the importances
MOST_SLICES = 10
COLUMNS = 2  # of slices
ON_LOG_SCALE = ("learning_rate", "weight_decay", "batch_size", "lora_rank")
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#808080"


@dataclass(frozen=True)
class SearchTable:
    """What the page says about a search: sentences, the best trials, and the importance of each parameter."""

    sentences: list[str]
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    importances: list[tuple[str, float]]
    has_slices: bool


def search_table(record: Mapping[str, Any] | None) -> SearchTable | None:
    """The table of a search; None where there was none, or no trial.

    >>> trial = {"number": 0, "state": "finished", "value": 0.31, "loss": 0.31, "seconds": 2.0, "is_default": True,
    ...          "settings": {"method": "linear", "depth": "2", "read": "mean"}}
    >>> table = search_table({"sentence": "nothing better", "evidence": "", "metric": "loss", "trials": [trial],
    ...                       "n_finished": 1, "n_pruned": 0, "n_failed": 0, "seconds": 3.0, "importances": {}})
    >>> table.header
    ('trial', 'loss', 'method', 'depth', 'read')
    >>> table.rows
    [('0 (default)', '0.310', 'linear', '2', 'mean')]
    """
    if not record or not record.get("trials"):
        return None
    metric, trials = METRICS[record["metric"]], record["trials"]
    finished = sorted(_finished(trials), key=lambda each: _rank(each, metric.direction))
    names = list(dict.fromkeys(name for each in finished for name in each["settings"]))
    others = () if metric.name == "loss" else (metric.title,)
    counts = ", ".join(f"{record[f'n_{state}']:,} {state}" for state in ("finished", "pruned", "failed"))
    about = (
        f"{len(trials):,} trials ({counts}) in {record['seconds']:.0f} s, judged on rows of train and validation only."
    )

    def row(each: Mapping[str, Any]) -> tuple[str, ...]:
        values = [metric.formatted({metric.name: each["value"]})] if others else []
        number = f"{each['number']}{' (default)' if each['is_default'] else ''}"
        settings = (_cell(each["settings"].get(name)) for name in names)
        return (number, *values, f"{each['loss']:.3f}", *settings)

    sentences = [_sentence(text) for text in (record["sentence"], record.get("evidence")) if text]
    header = ("trial", *others, "loss", *(name.replace("_", " ") for name in names))
    importances = sorted(record["importances"].items(), key=lambda item: -item[1])
    importances = [(name.replace(".", ": "), share) for name, share in importances if share >= LEAST_SHOWN]
    shown = [row(each) for each in finished[:MOST_SHOWN]]
    return SearchTable([*sentences, about], header, shown, importances, bool(_slices(trials)))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _finished(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [each for each in trials if each["state"] == "finished"]


def _rank(trial: Mapping[str, Any], direction: str) -> tuple[float, int]:
    return (-trial["value"] if direction == "max" else trial["value"], trial["number"])


def _cell(value: Any) -> str:
    """A setting in a table.

    >>> _cell(0.00034567), _cell("mean"), _cell(None)
    ('0.000346', 'mean', '–')
    """
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _slices(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings that took several values in finished trials."""
    values: dict[str, set[str]] = {}
    for each in _finished(trials):
        for name, value in each["settings"].items():
            values.setdefault(name, set()).add(str(value))
    return [name for name, distinct in values.items() if len(distinct) > 1][:MOST_SLICES]


def draw_slices(record: Mapping[str, Any]) -> Figure:
    """The value of each trial against each setting that was searched."""
    trials, metric = record["trials"], METRICS[record["metric"]]
    names = _slices(trials)
    n_rows = max(-(-len(names) // COLUMNS), 1)
    figure = Figure(figsize=(7.2, 0.6 + 2.1 * n_rows), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.05))
    grid = figure.subplots(n_rows, COLUMNS, squeeze=False, sharey=True)
    for axes, name in zip(grid.flat, names, strict=False):
        _draw_slice(axes, trials, name)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(metric.title)
    if names:
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw_slice(axes: Axes, trials: Sequence[Mapping[str, Any]], name: str) -> None:
    """One setting: default trials are diamonds, finished ones filled, those ended early hollow."""
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("ended early", {"marker": "o", "s": 18, "facecolors": "none", "edgecolors": GREY}),
        ("finished", {"marker": "o", "s": 22, "color": BLUE}),
        ("default settings", {"marker": "D", "s": 44, "facecolors": "none", "edgecolors": ORANGE, "linewidths": 1.6}),
    )
    drawn = [each for each in trials if each["value"] is not None and each["settings"].get(name) is not None]
    is_number = all(_number(each["settings"][name]) is not None for each in drawn)
    order = sorted({str(each["settings"][name]) for each in drawn})
    for kind, look in kinds:
        chosen = [each for each in drawn if _kind(each) == kind]
        places = [
            _number(each["settings"][name]) if is_number else order.index(str(each["settings"][name]))
            for each in chosen
        ]
        axes.scatter(places, [each["value"] for each in chosen], label=kind, zorder=3, **look)  # type: ignore[arg-type]
    if not is_number:
        axes.set_xticks(range(len(order)), order)
        axes.margins(x=0.3)
    elif name in ON_LOG_SCALE and all((_number(each["settings"][name]) or 0) > 0 for each in drawn):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(name.replace("_", " "))
    axes.grid(visible=True, color=GREY, alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _kind(trial: Mapping[str, Any]) -> str:
    if trial["is_default"]:
        return "default settings"
    return "finished" if trial["state"] == "finished" else "ended early"


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
