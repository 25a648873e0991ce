"""Loss and accuracy during a training as two plots, against epochs and examples seen.

    history.jsonl   {"step": 50, "epoch": 0.38, "examples_seen": 400, "train_loss": 0.61, "validation_loss": 0.64, …}
        │  one point for each value in a line
        ▼
    curves/loss.pdf  loss.svg  accuracy.pdf  accuracy.svg

The same lines give the same bytes: there are no dates, and the ids in an SVG come from a fixed salt. pyplot is not
used, so no display and no global state is touched. The style does not depend on the user's matplotlibrc.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from lasttoken.core.storage import new_file, write_text

INK, PAPER = "#16191d", "#fefefe"  # unlike all other colors, so that a page can replace them
LOOK = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": "none",
    "svg.fonttype": "none",  # text stays text: small, and readable aloud
    "pdf.fonttype": 42,  # TrueType, so that text in the PDF can be searched
}
SPLIT_LINES: dict[str, dict[str, Any]] = {  # Okabe and Ito's blue and vermilion: 3:1 or more on white and on near-black
    "train": {"color": "#0072B2", "linestyle": "-", "marker": "o", "markersize": 4},
    "validation": {
        "color": "#D55E00",
        "linestyle": (0, (5, 2)),
        "marker": "s",
        "markersize": 7,
        "markerfacecolor": "none",  # equal points of both splits stay visible
    },
}
MAX_MARKED = 40  # points of one line above which only the line is drawn


@dataclass(frozen=True)
class _Chart:
    """One plot: the suffix of the keys that it draws, and the title of its axis."""

    key: str
    axis: str


CHARTS = (_Chart("loss", "Loss (nats per example)"), _Chart("accuracy", "Accuracy"))


def draw_curves(history: Sequence[Mapping[str, Any]], folder: Path, n_train: int | None = None) -> dict[str, str]:
    """Write loss and accuracy as PDF and SVG into `folder`, each file whole or absent.

    Args:
        history: the lines of `history.jsonl`, with `step`, `epoch` (passes over train so far), `examples_seen` and
            any of `train_loss`, `validation_loss`, `train_accuracy`, `validation_accuracy`. A value that is absent,
            None or not finite is left out. Lines with a `C` are the path of a logistic regression. The last line with
            `best: true` is marked as the kept weights.
        folder: created when it does not exist.
        n_train: examples in the train split, for the second axis if no line has `examples_seen`.

    Returns:
        {"loss": …, "accuracy": …}: SVG elements to put into a page. They are drawn in `currentColor`, without a
        background and without ids that could clash.

    Raises:
        StorageError: no permission to write, or a full disk.
    """
    per_epoch = _examples_per_epoch(history, n_train)
    return {chart.key: write_figure(chart.key, partial(_draw, chart, history, per_epoch), folder) for chart in CHARTS}


def write_figure(name: str, draw: Callable[[], Figure], folder: Path) -> str:
    """Draw a figure in the report's look, write `name`.pdf and `name`.svg, and give the SVG element for a page.

    Raises:
        StorageError: no permission to write, or a full disk.
    """
    with style.context(["default", LOOK, {"svg.hashsalt": f"lasttoken {name}"}]), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"Glyph .* missing from font"
        )  # in the SVG, text finds its font in the browser
        figure = draw()
        with new_file(folder / f"{name}.pdf") as path:
            figure.savefig(path, format="pdf", metadata={"CreationDate": None})
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    write_text(folder / f"{name}.svg", buffer.getvalue())
    return _inline(buffer.getvalue())


def save_figure(draw: Callable[[], Figure], path: Path) -> None:
    """Draw a figure in the report's look into one file, in the format of its suffix.

    Raises:
        StorageError: no permission to write, or a full disk.
    """
    with style.context(["default", LOOK, {"svg.hashsalt": "lasttoken"}]), new_file(path) as temporary:
        draw().savefig(temporary, format=path.suffix.removeprefix("."), dpi=150)


def _draw(chart: _Chart, history: Sequence[Mapping[str, Any]], per_epoch: float | None) -> Figure:
    figure = Figure(figsize=(5.2, 3.6), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.05))
    axes = figure.add_subplot()
    values = [value for split in SPLIT_LINES for value in _draw_split(axes, history, split, chart.key)]
    axes.set_ylabel(chart.axis)
    if is_path := any("C" in line for line in history):
        axes.set_xlabel("C (inverse regularization strength)")
        axes.set_xscale("log")
    else:
        axes.set_xlabel("Epoch")
        axes.set_xlim(0, _last_epoch(history))
    axes.grid(visible=True, color="#808080", alpha=0.25, linewidth=0.6)
    axes.spines["right"].set_visible(False)
    axes.spines["top"].set_visible(per_epoch is not None and not is_path)
    if not is_path:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    _scale(axes, chart.key, values)
    if per_epoch is not None and not is_path:
        _add_examples_axis(axes, per_epoch)
    if values:
        _mark_best(axes, history)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
    else:
        axes.text(0.5, 0.5, f"No {chart.key} in this run's history", transform=axes.transAxes, ha="center")
    return figure


def _draw_split(axes: Axes, history: Sequence[Mapping[str, Any]], split: str, key: str) -> list[float]:
    """Draw one split's line; its values."""
    key = f"{split}_{key}"
    points = [(_place(line), float(line[key])) for line in history if line.get(key) is not None]
    points = [(place, value) for place, value in points if math.isfinite(value)]
    values = [value for _, value in points]
    look = SPLIT_LINES[split] | ({} if len(points) <= MAX_MARKED else {"marker": ""})
    if points:
        places = [place for place, _ in points]
        axes.plot(places, values, label=split, linewidth=1.6, clip_on=False, zorder=3, **look)
    return values


def _scale(axes: Axes, key: str, values: list[float]) -> None:
    """Scale the axis: loss from 0; accuracy up to 100 %, from slightly below the lowest."""
    if key == "loss":
        axes.set_ylim(0, 1.05 * max(values, default=1.0) or 1.0)
        return
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    lowest = min(values, default=0.0)
    axes.set_ylim(max(0.0, lowest - max(0.05, 0.1 * (1 - lowest))), 1.0)


def _add_examples_axis(axes: Axes, per_epoch: float) -> None:
    top = axes.secondary_xaxis("top", functions=(_times(per_epoch), _times(1 / per_epoch)))
    top.set_xlabel("Examples seen")
    top.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True))
    top.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))


def _times(factor: float) -> Callable[[ArrayLike], NDArray[np.float64]]:
    return lambda values: np.asarray(values, dtype=np.float64) * factor


def _mark_best(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    best = [_place(line) for line in history if line.get("best")]
    if best:
        axes.axvline(best[-1], color=INK, linewidth=1, linestyle=":", label="kept", zorder=2, clip_on=False)


def _place(line: Mapping[str, Any]) -> float:
    """Where a line of history stands: its epoch, or the C of a logistic regression."""
    return float(line.get("C", line["epoch"]))


def _last_epoch(history: Sequence[Mapping[str, Any]]) -> float:
    return max((float(line["epoch"]) for line in history), default=0.0) or 1.0


def _examples_per_epoch(history: Sequence[Mapping[str, Any]], n_train: int | None) -> float | None:
    """From the counts in the history, because an epoch may drop its last, incomplete batch."""
    trained_lines = [line for line in history if line["epoch"] > 0 and line.get("examples_seen")]
    if trained_lines:
        return float(trained_lines[-1]["examples_seen"] / trained_lines[-1]["epoch"])
    return float(n_train) if n_train else None


def _inline(svg: str) -> str:
    """The <svg> element alone, drawn in the color of the surrounding text."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>\s*", "", element, flags=re.DOTALL)
    element = re.sub(r"<style.*?</style>", "", element, flags=re.DOTALL)  # of `*`: it would reach the page around it
    element = element.replace("<svg ", '<svg style="stroke-linejoin: round; stroke-linecap: butt" ', 1)
    element = re.sub(r'<g id="[^"]*"', "<g", element)  # figure_1, axes_1, …: nothing refers to them
    return element.replace(PAPER, "none").replace(INK, "currentColor").strip()
