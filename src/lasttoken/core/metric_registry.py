"""Every metric, once: its name, title, direction, format, and the places that show it.

    METRICS["macro_f1"] ──► history.jsonl, --metric, metrics.json, the terminal's tables, card, page, compare, server

To add a metric, add an entry to `METRICS` with a function that computes it from the truth, the log-probabilities and
the predictions. The registry is part of `core` because the settings offer its names (`--metric`). Metrics without a
function of their own are those of `evaluation/metrics.py` and `evaluation/multilabel.py`, which also give their
intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["single-label", "multi-label"]
Place = Literal[
    "history",  # computed at each evaluation of a training, and valid for --metric
    "train history",  # also on train rows
    "table",  # beside the headline metric in the terminal
    "details",  # below it
    "card",  # README.md of a run
    "page",  # report.html
    "page of uneven labels",  # report.html, only where a label has many more rows than another
    "compare",  # the table of lasttoken compare
    "compare --json",
    "server",  # /info
    "server interval",  # /info, its interval
    "repeats",  # mean and standard deviation over seeds and folds
    "calibration",  # before and after the temperature
]
NEW: tuple[Place, ...] = (
    "history", "details", "card", "page", "compare", "compare --json", "server", "server interval", "repeats",
)  # fmt: skip
BOTH: tuple[Kind, ...] = ("single-label", "multi-label")

# From the truth ([N] label ids, or [N, K] bool), log-probabilities [N, K] and predictions (as the truth) to a number.
Compute = Callable[["NDArray[Any]", "NDArray[Any]", "NDArray[Any]"], float]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of predictions."""

    name: str  # the key in metrics.json and history.jsonl
    title: str
    direction: Literal["max", "min"]  # which values are better
    compute: Compute | None = None
    places: tuple[Place, ...] = NEW
    kinds: tuple[Kind, ...] = BOTH  # of tasks that have it
    is_share: bool = False  # written in percent
    range: tuple[float, float] = (0.0, 1.0)  # the values that it can have
    decimals: int = 3
    long_title: str | None = None  # where there is room

    @property
    def full_title(self) -> str:
        """The title at the start of a line."""
        return self.long_title or self.title[:1].upper() + self.title[1:]

    def formatted(self, values: Mapping[str, Any], percent: bool = True) -> str:
        """The value and its interval from a split's part of metrics.json; a dash where it is absent.

        >>> METRICS["accuracy"].formatted({"accuracy": 0.98, "accuracy_ci95": [0.97, 0.99]})
        '98.00% (97.00 to 99.00)'
        >>> METRICS["mcc"].formatted({"mcc": 0.9}), METRICS["mcc"].formatted({})
        ('0.900', '–')
        """
        scale, decimals, sign = (100, 2, "%") if self.is_share and percent else (1, self.decimals, "")
        return with_interval(values, self.name, scale, decimals, sign)


def with_interval(values: Mapping[str, Any], name: str, scale: int = 1, decimals: int = 3, sign: str = "") -> str:
    """A value times `scale`, and its interval; a dash where it is absent.

    >>> with_interval({"recall": 0.5, "recall_ci95": [0.25, 0.75]}, "recall")
    '0.500 (0.250 to 0.750)'
    """
    if values.get(name) is None:
        return "–"
    interval = values.get(f"{name}_ci95")
    bounds = f" ({interval[0] * scale:.{decimals}f} to {interval[1] * scale:.{decimals}f})" if interval else ""
    return f"{values[name] * scale:.{decimals}f}{sign}{bounds}"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="accuracy",
            title="accuracy",
            direction="max",
            places=(
                "history",
                "train history",
                "card",
                "compare --json",
                "server",
                "server interval",
                "repeats",
            ),
            is_share=True,
        ),
        Metric(
            name="micro_f1",
            title="micro-F1",
            direction="max",
            places=("card", "compare --json", "server", "server interval", "repeats"),
            kinds=("multi-label",),
        ),
        Metric(
            name="macro_f1",
            title="macro-F1",
            direction="max",
            places=(
                "history",
                "table",
                "card",
                "page of uneven labels",
                "compare",
                "compare --json",
                "server",
                "server interval",
                "repeats",
            ),
        ),
        Metric(
            name="subset_accuracy",
            title="subset accuracy",
            direction="max",
            places=("details", "page"),
            kinds=("multi-label",),
            is_share=True,
        ),
        Metric(
            name="balanced_accuracy",
            title="balanced accuracy",
            direction="max",
            places=("details", "card", "page of uneven labels", "compare --json", "repeats"),
            kinds=("single-label",),
            is_share=True,
        ),
        Metric(
            name="mcc",
            title="MCC",
            range=(-1.0, 1.0),
            direction="max",
            places=("details", "card", "page of uneven labels"),
            kinds=("single-label",),
        ),
        Metric(
            name="pr_auc",
            title="PR-AUC",
            direction="max",
            places=("details", "card", "page of uneven labels"),
            kinds=("single-label",),
        ),
        Metric(
            name="mAP",
            title="mAP",
            long_title="mAP",
            direction="max",
            places=("details", "card", "page", "compare --json"),
            kinds=("multi-label",),
        ),
        Metric(name="hamming", title="Hamming loss", direction="min", places=("details",), kinds=("multi-label",)),
        Metric(
            name="ece",
            title="ECE",
            long_title="Expected calibration error",
            direction="min",
            places=("details", "card", "compare", "compare --json", "server", "repeats", "calibration"),
            kinds=("single-label",),
        ),
        Metric(
            name="brier",
            title="Brier",
            range=(0.0, 2.0),
            long_title="Brier score",
            direction="min",
            places=("details", "card", "calibration"),
            kinds=("single-label",),
        ),
        Metric(
            name="loss",
            title="loss",
            range=(0.0, math.inf),
            long_title="Loss (nats)",
            direction="min",
            places=("history", "train history", "details", "card", "compare --json", "repeats", "calibration"),
        ),
    )
}  # in the order of tables


HEADLINES: dict[Kind, str] = {"single-label": "accuracy", "multi-label": "micro_f1"}


def metrics_at(place: Place, kind: Kind | None = None) -> list[Metric]:
    """The metrics that a place shows; with `kind` only those that such a task has.

    >>> [metric.name for metric in metrics_at("history")]
    ['accuracy', 'macro_f1', 'loss']
    """
    return [metric for metric in METRICS.values() if place in metric.places and (kind is None or kind in metric.kinds)]


def headline_of(values: Mapping[str, Any]) -> str:
    """The name of the metric by which classifiers are compared, from a split's part of metrics.json.

    >>> headline_of({"accuracy": 0.9}), headline_of({"accuracy": 0.5, "micro_f1": 0.8})
    ('accuracy', 'micro_f1')
    """
    return next(name for name in (HEADLINES["multi-label"], HEADLINES["single-label"]) if values.get(name) is not None)


def metric_choices() -> tuple[str, ...]:
    """The values of `--metric`."""
    return tuple(metric.name for metric in metrics_at("history"))
