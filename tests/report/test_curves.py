"""Curves: what is in the files, the same bytes each time, and no line of a history that stops them."""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from lasttoken.core.errors import StorageError
from lasttoken.report import curves
from lasttoken.report.curves import CHARTS, draw_curves

FILES = {"loss.pdf", "loss.svg", "accuracy.pdf", "accuracy.svg"}
HISTORY: list[dict[str, Any]] = [
    {"step": 0, "epoch": 0.0, "examples_seen": 0, "train_loss": 2.1, "validation_loss": 2.2, "train_accuracy": 0.5},
    {"step": 50, "epoch": 0.5, "examples_seen": 400, "train_loss": 0.9, "validation_loss": None, "best": True},
    {"step": 90, "epoch": 0.9, "examples_seen": 720, "train_loss": 0.3, "validation_loss": 0.5, "best": True},
    {"step": 100, "epoch": 1.0, "examples_seen": 800, "train_accuracy": 0.97, "validation_accuracy": 0.95},
]


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def drawn(key: str, history: list[dict[str, Any]], n_train: int | None = None) -> Figure:
    chart = next(chart for chart in CHARTS if chart.key == key)
    return curves._draw(chart, history, curves._examples_per_epoch(history, n_train))


def lines(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    found = figure.axes[0].get_lines()
    return {str(line.get_label()): [tuple(point) for point in np.asarray(line.get_xydata()).tolist()] for line in found}


def test_four_files_and_two_elements(tmp_path: Path) -> None:
    found = draw_curves(HISTORY, tmp_path / "curves")
    assert {path.name for path in (tmp_path / "curves").iterdir()} == FILES
    assert (tmp_path / "curves/loss.pdf").read_bytes().startswith(b"%PDF")
    assert set(found) == {"loss", "accuracy"}
    for key, axis in {"loss": "Loss (nats per example)", "accuracy": "Accuracy"}.items():
        for svg in (found[key], (tmp_path / f"curves/{key}.svg").read_text("utf-8")):
            texts = {element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")}
            assert {"Epoch", "Examples seen", axis, "train", "validation", "kept"} <= texts


def test_points_stand_at_their_true_epochs() -> None:
    found = lines(drawn("loss", HISTORY))
    assert found["train"] == [(0.0, 2.1), (0.5, 0.9), (0.9, 0.3)]
    assert found["validation"] == [(0.0, 2.2), (0.9, 0.5)]
    assert lines(drawn("accuracy", HISTORY))["validation"] == [(1.0, 0.95)]


def test_the_last_best_line_is_marked_as_kept() -> None:
    assert {x for x, _ in lines(drawn("loss", HISTORY))["kept"]} == {0.9}
    unmarked = [{**line, "best": False} for line in HISTORY]
    assert "kept" not in lines(drawn("loss", unmarked))


@pytest.mark.parametrize(("history", "n_train", "end"), [(HISTORY, 807, 800), (HISTORY[:1], 807, 807)])
def test_the_second_axis_counts_examples_seen(history: list[dict[str, Any]], n_train: int, end: float) -> None:
    """By the history's own count; by the size of train where there is none yet."""
    figure = drawn("loss", history, n_train)
    figure.draw_without_rendering()
    assert figure.axes[0].child_axes[0].get_xlim() == pytest.approx((0, end))


def test_no_second_axis_when_nothing_says_how_many_examples() -> None:
    assert drawn("loss", HISTORY[:1]).axes[0].child_axes == []


def test_colours_also_differ_by_line_style() -> None:
    train, validation = drawn("loss", HISTORY).axes[0].get_lines()[:2]
    assert train.get_color() != validation.get_color()
    assert train.get_linestyle() != validation.get_linestyle()
    assert train.get_marker() != validation.get_marker()


def test_a_single_evaluation_is_visible() -> None:
    line = drawn("loss", HISTORY[:1]).axes[0].get_lines()[0]
    assert line.get_marker() == "o"
    assert not line.get_clip_on()


def test_many_evaluations_lose_their_markers() -> None:
    history = [{"step": i, "epoch": i / 10, "examples_seen": i, "train_loss": 1.0} for i in range(100)]
    assert drawn("loss", history).axes[0].get_lines()[0].get_marker() in ("", "None")


@pytest.mark.parametrize(
    "history",
    [
        [],
        [{"step": 1, "epoch": 0.1, "examples_seen": 8, "train_loss": math.nan, "validation_loss": math.inf}],
        [{"step": 1, "epoch": 1.0, "examples_seen": 8, "train_loss": 0.0, "train_accuracy": 1.0}],
        [{"step": 1, "epoch": 1.0, "examples_seen": 8, "validation_accuracy": 0.0}],
    ],
)
def test_poor_histories_are_drawn(tmp_path: Path, history: list[dict[str, Any]]) -> None:
    draw_curves(history, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_an_empty_history_says_so(tmp_path: Path) -> None:
    assert "No loss in this run's history" in draw_curves([], tmp_path)["loss"].replace("&#x27;", "'")


def test_the_same_history_gives_the_same_bytes_whatever_the_caller_s_settings(tmp_path: Path) -> None:
    first = draw_curves(HISTORY, tmp_path / "a")
    with matplotlib.rc_context({"svg.hashsalt": "other", "font.size": 20, "axes.facecolor": "black"}):
        before = dict(matplotlib.rcParams)
        assert draw_curves(HISTORY, tmp_path / "b") == first
        assert dict(matplotlib.rcParams) == before
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_pyplot_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    draw_curves(HISTORY, tmp_path)


def test_elements_fit_into_one_page(tmp_path: Path) -> None:
    """Ink of the page's colour, no background, nothing of one that could meet the other."""
    found = draw_curves(HISTORY, tmp_path)
    ids = {
        key: {e.attrib["id"] for e in ElementTree.fromstring(svg).iter() if "id" in e.attrib}
        for key, svg in found.items()
    }
    assert not ids["loss"] & ids["accuracy"]
    for svg in found.values():
        assert svg.startswith("<svg ")
        assert "currentColor" in svg
        assert curves.INK not in svg
        assert curves.PAPER not in svg
        assert "<style" not in svg
        assert "<metadata" not in svg


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "curves").write_text("a file")
    with pytest.raises(StorageError, match="a file is where a folder is needed"):
        draw_curves(HISTORY, tmp_path / "curves")
