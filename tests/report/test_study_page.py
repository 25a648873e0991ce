"""The page of a study: every row is on it, all text is escaped, and the axis holds every interval."""

from __future__ import annotations

import re
from typing import Any

from lasttoken.report.study_page import render_study


def summary(mean: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"mean": mean, "sd": 0.01, "ci95": None if low is None else [low, high]}


def row(name: str, mean: float, **more: Any) -> dict[str, Any]:
    metrics = {"accuracy": summary(mean, mean - 0.05, mean + 0.02), "loss": summary(0.3, 0.2, 0.4)}
    return {
        "row": name,
        "settings": {"epochs": 3},
        "metrics": metrics,
        "validation_loss": summary(0.25),
        "trained_parameters": 1234567,
        "parameters": 7654321,
        "seconds": 61.5,
        "trunk_s": 0.0,
        **more,
    }


DIFFERENCE = {
    "value": -0.012,
    "ci95": [-0.03, 0.004],
    "loss": 0.1,
    "loss_ci95": [-0.1, 0.3],
    "sentence": "No evidence <b>.",
}
TABLE: dict[str, Any] = {
    "study": "blocks & <i>heads</i>",
    "data": "messages.csv",
    "split": "test",
    "n": 1000,
    "examples": {"train": 80, "test": 1000},
    "seeds": [1, 2],
    "headline": "accuracy",
    "points": "points",
    "multi_label": False,
    "rows": [
        row("base", 0.9),
        row("worse", 0.888, difference=DIFFERENCE),
        row("again", 0.9, same_as="base", difference=None),
        {"row": "xl", "settings": {"backbone": "gpt2-xl"}, "without_results": "skipped: its backbone is not here"},
    ],
    "baselines": {"majority": {"test": {"n": 1000, "accuracy": 0.5, "accuracy_ci95": [0.4, 0.6]}}},
    "versions": {"lasttoken": "1.0"},
}


def test_everything_is_on_the_page_and_escaped() -> None:
    page = render_study(TABLE)
    for text in (
        "blocks &amp; &lt;i&gt;heads&lt;/i&gt;", "No evidence &lt;b&gt;.", "90.00% ± 1.00", "−1.2", "−3.0 to +0.4",
        "the same training as base", "1,234,567", "1 min 1 s", "its backbone is not here", "majority", "gpt2-xl",
    ):  # fmt: skip
        assert text in page, text
    assert not re.search(r"<script|https?://|<link|<img", page)


def test_the_axis_holds_every_interval() -> None:
    page = render_study(TABLE)
    bars = [(float(left), float(width)) for left, width in re.findall(r'<i style="left:(.*?)%;width:(.*?)%"', page)]
    assert len(bars) == 3
    assert all(left >= 0 and left + width <= 100 for left, width in bars)
    assert bars[0] == bars[2]
    assert bars[1][0] < bars[0][0]


def test_a_study_without_any_result_has_a_page() -> None:
    page = render_study({**TABLE, "rows": [TABLE["rows"][-1]], "seeds": [1]})
    assert "its backbone is not here" in page
