"""The table of what was tried, on the page and in the card."""

from __future__ import annotations

from typing import Any

import numpy as np

from lasttoken.evaluation.metrics import compute_metrics
from lasttoken.report.card import render_card
from lasttoken.report.choice import choice_table
from lasttoken.report.page import render_report

FITTED = {"depth": 16, "metric": "macro_f1", "value": 0.91, "loss": 0.3, "seconds": 12.34}
CHOICE: dict[str, Any] = {
    "metric": "macro_f1",
    "held_out": "folds of train and validation",
    "reason": "the best loss",
    "candidates": [
        {**FITTED, "method": "linear", "read": "last+mean", "C": 0.01, "value": 0.9, "label_words": 2.0},
        {**FITTED, "method": "tail", "read": "mean"},
    ],
    "chosen": {**FITTED, "method": "tail", "read": "mean"},
    "trunk_s": 3.21,
    "seconds": 30.0,
}
TEST = compute_metrics(np.array([0, 1, 0]), ["a", "b"], predicted_ids=np.array([0, 1, 1])).to_json()
FACTS = {"title": "a run", "headline": {"split": "test", "metrics": TEST}}


def test_every_candidate_has_a_row_and_the_chosen_one_a_mark() -> None:
    table = choice_table(CHOICE)
    assert table.header == ("method", "depth", "pooling", "C", "macro-F1", "loss", "seconds")
    assert table.rows[1] == ("tail", "16", "mean", "–", "0.910", "0.300", "12.3")
    assert table.chosen == 1
    assert "labels' words" in table.rows[0][0]
    assert "folds of train and validation" in table.sentence


def test_a_choice_by_the_loss_has_one_column_for_it() -> None:
    candidate = {**FITTED, "method": "tail", "read": "mean", "metric": "loss", "value": 0.3}
    table = choice_table({**CHOICE, "metric": "loss", "candidates": [candidate], "chosen": candidate})
    assert table.header.count("loss") == 1
    assert len(table.rows[0]) == len(table.header)


def test_page_and_card_show_it_where_something_was_chosen() -> None:
    for render in (render_report, render_card):
        shown = render({**FACTS, "choice": CHOICE})
        assert "last+mean" in shown
        assert "12.3" in shown
        assert "last+mean" not in render(FACTS)
