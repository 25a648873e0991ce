"""The table of a study as one self-contained HTML file; all text is escaped, and it has no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from lasttoken.core.metric_registry import METRICS
from lasttoken.report.page import number, percent, seconds, setting


@dataclass(frozen=True)
class Bar:
    """A value and its interval on an axis, in percent of its width."""

    value: float
    low: float
    width: float


def render_study(table: Mapping[str, Any]) -> str:
    """The page as one string of HTML; `table`: the content of study.json."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "number": number, "seconds": seconds, "setting": setting}
    source = files("lasttoken.report").joinpath("study.html.jinja").read_text("utf-8")
    page = environment.from_string(source).render(_view(table))
    return page.encode("utf-8", "replace").decode("utf-8")  # JSON can hold a lone surrogate, UTF-8 cannot


def _view(table: Mapping[str, Any]) -> dict[str, Any]:
    trained = [row for row in table["rows"] if "metrics" in row]
    headline = METRICS[table["headline"]]
    shown = [name for name in METRICS if name != headline.name and all(name in row["metrics"] for row in trained)]
    low, high = _ends([row["metrics"][headline.name] for row in trained])
    baselines = {
        name: by_split[table["split"]] for name, by_split in table["baselines"].items() if table["split"] in by_split
    }
    differences = [row["difference"] for row in trained if row.get("difference")]
    return {
        "table": table,
        "trained": trained,
        "headline": headline,
        "others": [METRICS[name] for name in shown],
        "bars": {row["row"]: _bar(row["metrics"][headline.name], low, high) for row in trained},
        "axis": (headline.formatted({headline.name: low}), headline.formatted({headline.name: high})),
        "untrained": [row for row in table["rows"] if "metrics" not in row],
        "sentences": [difference["sentence"] for difference in differences],
        "baselines": baselines,
        "several": len(table["seeds"]) > 1,
        "cell": cell,
        "signed": signed,
        "given": lambda row: ", ".join(f"{name} = {setting(value)}" for name, value in row["settings"].items()),
    }


def _ends(summaries: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The ends of an axis that shows all intervals, a little wider than they are."""
    bounds = [bound for each in summaries for bound in (each["ci95"] or (each["mean"], each["mean"]))]
    if not bounds:
        return 0.0, 1.0
    low, high = min(bounds), max(bounds)
    room = max((high - low) * 0.05, 0.005)
    return max(low - room, 0.0), min(high + room, 1.0)


def _bar(summary: Mapping[str, Any], low: float, high: float) -> Bar:
    start, end = summary["ci95"] or (summary["mean"], summary["mean"])
    places = [100 * (value - low) / max(high - low, 1e-9) for value in (summary["mean"], start, end)]
    return Bar(round(places[0], 2), round(places[1], 2), round(places[2] - places[1], 2))


def cell(summary: Mapping[str, Any], name: str, several: bool) -> str:
    """The mean of a metric, and its standard deviation if there are several seeds.

    >>> cell({"mean": 0.95, "sd": 0.004}, "accuracy", True), cell({"mean": 0.2, "sd": 0.0}, "loss", False)
    ('95.00% ± 0.40', '0.200')
    """
    metric = METRICS[name]
    mean = metric.formatted({name: summary["mean"]})
    if not several:
        return mean
    return f"{mean} ± {metric.formatted({name: summary['sd']}).removesuffix('%')}"


def signed(value: float, scale: float = 1.0, digits: int = 3) -> str:
    """A difference with its sign.

    >>> signed(-0.0123, 100, 1), signed(0.5)
    ('−1.2', '+0.500')
    """
    return f"{value * scale:+.{digits}f}".replace("-", "−")
