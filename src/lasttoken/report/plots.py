"""Plots of the test metrics: reliability, precision against recall, accuracy against the number of train examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, PercentFormatter

from lasttoken.report.curves import save_figure, write_figure
from lasttoken.report.search import draw_slices
from lasttoken.report.sections import drawn_labels

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#808080"
COLORS = (BLUE, ORANGE, "#009E73", "#B8608F")  # each twice: a full and a dashed line
MAX_NAME = 24


def draw_plots(facts: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write a PDF and an SVG into `folder` for each of `calibration`, `pr_curve`, `learning_curve` and
    `search_slices` in the facts.

    Returns:
        {"reliability", "precision-recall", "learning-curve", "search"}: SVG elements for a page's `curves`; without
        facts no key.

    Raises:
        StorageError: no permission to write, or a full disk.
    """
    return {
        name: write_figure(name, partial(draw, facts[key]), folder)
        for name, (key, draw) in PLOTS.items()
        if facts.get(key)
    }


def draw_learning_curve(curve: Mapping[str, Any], path: Path) -> None:
    """The learning curve as one file, in the format of its suffix: .svg, .pdf or .png.

    Raises:
        StorageError: no permission to write, or a full disk.
    """
    save_figure(partial(_learning, curve), path)


def _figure(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 4.2), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.05))
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    axes.grid(visible=True, color=GREY, alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    return figure, axes


def _reliability(calibration: Mapping[str, Any]) -> Figure:
    """Accuracy of each bin against its mean confidence, before and after the temperature, with the diagonal."""
    figure, axes = _figure("Confidence", "Accuracy")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="calibrated")
    _points(axes, calibration.get("bins_before"), ("confidence", "accuracy", "accuracy_ci95"), "before", ORANGE, "s")
    _points(axes, calibration.get("bins_after"), ("confidence", "accuracy", "accuracy_ci95"), "after", BLUE, "o")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _precision_recall(curves: Mapping[str, Mapping[str, Any]]) -> Figure:
    figure, axes = _figure("Recall", "Precision")
    for i, label in enumerate(drawn_labels(curves)):
        color, dashes = COLORS[i % len(COLORS)], "-" if i < len(COLORS) else "--"
        recall, precision = curves[label]["recall"], curves[label]["precision"]
        axes.plot(recall, precision, label=_name(label), drawstyle="steps-post", color=color, linestyle=dashes)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _learning(curve: Mapping[str, Any]) -> Figure:
    figure, axes = _figure("Train examples", "Accuracy")
    points = curve["points"]
    baseline = _name(str(curve.get("baseline") or "baseline"))
    _points(axes, points, ("n_train", "baseline_accuracy", "baseline_ci95"), baseline, ORANGE, "s", line="--")
    _points(axes, points, ("n_train", "accuracy", "accuracy_ci95"), "this classifier", BLUE, "o", line="-")
    axes.set_xscale("log")
    axes.set_xticks([point["n_train"] for point in points], minor=False)
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda n, _: ""))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _points(
    axes: Axes,
    points: Sequence[Mapping[str, Any]] | None,
    keys: tuple[str, str, str],
    name: str,
    color: str,
    marker: str,
    line: str = "",
) -> None:
    """Points (x, y, interval of y) with their intervals as bars; a point without a value is left out."""
    x, y, interval = keys
    measured = [point for point in points or [] if point.get(y) is not None]
    if not measured:
        return
    positions, values = [point[x] for point in measured], [point[y] for point in measured]
    bounds = [point.get(interval) or (point[y], point[y]) for point in measured]
    below = [max(0.0, value - low) for value, (low, _) in zip(values, bounds, strict=True)]
    above = [max(0.0, high - value) for value, (_, high) in zip(values, bounds, strict=True)]
    axes.errorbar(
        positions, values, yerr=[below, above], label=name, color=color, marker=marker, linestyle=line, capsize=2
    )


def _name(label: str) -> str:
    """A label as matplotlib can show it: short, without math mode, and without a leading underscore, which hides it."""
    text = label if len(label) <= MAX_NAME else label[:MAX_NAME] + "…"
    return "\N{WORD JOINER}" + "".join(sign if sign.isprintable() else " " for sign in text).replace("$", "\\$")


PLOTS: dict[str, tuple[str, Callable[[Mapping[str, Any]], Figure]]] = {
    "reliability": ("calibration", _reliability),
    "precision-recall": ("pr_curve", _precision_recall),
    "learning-curve": ("learning_curve", _learning),
    "search": ("search_slices", draw_slices),
}
