"""The report page: whole, self-contained, escaped, and honest about its intervals."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lasttoken.evaluation.metrics import compute_metrics
from lasttoken.report.curves import draw_curves
from lasttoken.report.page import most_confused, render_report

NASTY = '<script>alert("1")</script>'
VOID = {"meta", "br", "hr", "img", "input", "link", "path", "line", "use"}


class Page(HTMLParser):
    """Tags that are open at the end, every tag with its attributes, and the text: as it is, and with tags as spaces."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = self.words = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        self.words += f" {data}"


def metrics(labels: list[str], n_correct: int, n: int, shift: int = 1) -> dict[str, Any]:
    """`n` examples in turn of each label, of which the first `n_correct` are predicted right."""
    truth = np.arange(n) % len(labels)
    predicted = np.where(np.arange(n) < n_correct, truth, (truth + shift) % len(labels))
    return compute_metrics(truth, labels, predicted_ids=predicted).to_json()


def facts(labels: list[str] | None = None, ours: int = 295, best: int = 290, **more: Any) -> dict[str, Any]:
    labels = labels or ["ham", "spam"]
    test = metrics(labels, ours, 300)
    return {
        "title": "Spam",
        "run": {
            "created": "2026-01-02",
            "lasttoken": "0.1.0",
            "backbone": "gpt2",
            "data": "m.csv",
            "stopped": None,
            "kept": "",
        },
        "headline": {"split": "test", "metrics": test},
        "splits": {"train": metrics(labels, 1045, 1045), "test": test},
        "baselines": {
            "majority": {"test": metrics(labels, 150, 300)},
            "char-ngrams": {"test": metrics(labels, best, 300)},
        },
        "baseline_notes": ["tfidf-logreg was not fitted: no words"],
        "data": {
            "counts": {"train": dict.fromkeys(labels, 500), "test": dict.fromkeys(labels, 150)},
            "notes": ["403 rows are exact duplicates."],
            "shared_with_train": {"test": 37},
            "tokens": {"longest_train": 120, "cut_texts": 3, "cut_tokens": 211},
        },
        "settings": {"learning_rate": 5e-5, "text": ["Text"], "max_length": None, "causal_mask": True},
        "versions": {"torch": "2.13.0"},
        "timing_s": {"trunk": 40.12},
        "curves": {},
        **more,
    }


def test_every_section_and_its_figures_are_there(tmp_path: Path) -> None:
    history = [{"step": 1, "epoch": 1.0, "examples_seen": 8, "train_loss": 0.5, "train_accuracy": 0.9}]
    source = render_report(facts(curves=draw_curves(history, tmp_path)))
    page = Page(source)
    assert page.open == []
    assert source.startswith("<!doctype html>")
    assert source.count("<svg style=") == 2
    text = " ".join(page.words.replace("\N{NO-BREAK SPACE}", " ").split())
    for wanted in (
        "Accuracy on test 98.3 % 95 % interval 96.2 % to 99.3 %, from 300 examples.",
        "Texts of test that are also in train: 37 of 300; they flatter its figures.",
        "The longest train text has 120 tokens. 3 texts were too long and lost 211 tokens together.",
        "403 rows are exact duplicates.",
        "tfidf-logreg was not fitted: no words",
        "train 1,045 100 % 99.6 % – 100 %",
        "learning_rate 5e-05 text Text max_length not set causal_mask true",
        "trunk 40.1 s",
        "torch 2.13.0",
    ):
        assert wanted in text


def test_the_page_needs_nothing_outside_itself(tmp_path: Path) -> None:
    history = [{"step": 1, "epoch": 1.0, "examples_seen": 8, "train_loss": 0.5}]
    source = render_report(facts(curves=draw_curves(history, tmp_path)))
    tags = Page(source).tags
    assert not {"script", "link", "iframe", "object", "img", "base"} & {tag for tag, _ in tags}
    for _, attributes in tags:
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        assert all((attributes.get(name) or "#").startswith("#") for name in ("href", "xlink:href"))
    assert "@import" not in source
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", source))
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_what_users_wrote_stays_text() -> None:
    labels = ["ham", NASTY]
    source = render_report(
        facts(
            labels,
            title=NASTY,
            run={
                "backbone": NASTY,
                "data": NASTY,
                "kept": NASTY,
                "created": NASTY,
                "lasttoken": NASTY,
                "stopped": None,
            },
            settings={NASTY: NASTY},
            versions={NASTY: NASTY},
            baseline_notes=[NASTY],
        )
    )
    assert "<script" not in source
    assert Page(source).text.count(NASTY) >= 12
    many = render_report(facts([f"{NASTY}{i}" for i in range(30)], ours=200))
    assert "<script" not in many


def test_text_that_utf8_cannot_hold_is_replaced() -> None:
    render_report(facts(["ham", "half \ud83d emoji"])).encode("utf-8")


def test_tables_and_figures_are_named_for_those_who_listen(tmp_path: Path) -> None:
    page = Page(render_report(facts(curves=draw_curves([], tmp_path))))
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
    regions = [attributes for _, attributes in page.tags if attributes.get("role") in ("region", "img")]
    assert len(regions) >= 8
    assert all(attributes["aria-label"] for attributes in regions)
    assert [tag for tag, _ in page.tags].count("h1") == 1
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {attributes["aria-labelledby"] for tag, attributes in page.tags if tag == "section"} <= targets


@pytest.mark.parametrize(
    ("ours", "best", "says", "omits"),
    [
        (295, 290, "The intervals overlap: these examples alone do not show", "use the cheap one"),
        (290, 290, "use the cheap one", "do not overlap"),
        (285, 290, "use the cheap one", "do not overlap"),
        (295, 200, "The intervals do not overlap: so large a difference is unlikely to be chance", "use the cheap one"),
        (200, 295, "use the cheap one", "The intervals overlap"),
    ],
)
def test_the_verdict_is_honest(ours: int, best: int, says: str, omits: str) -> None:
    text = Page(render_report(facts(ours=ours, best=best))).text
    assert "The best baseline, char-ngrams" in text
    assert "is not a paired test" in text
    assert says in text
    assert omits not in text


def test_without_baselines_there_is_nothing_to_hold_it_against() -> None:
    text = Page(render_report(facts(baselines={}, baseline_notes=[]))).text
    assert "No baseline was measured" in text
    assert "paired test" not in text


@pytest.mark.parametrize(("stopped", "says"), [("interrupted", "was interrupted"), ("early", "stopped early")])
def test_a_training_that_did_not_end_by_itself_is_told(stopped: str, says: str) -> None:
    assert says in render_report(facts(run={"stopped": stopped}))
    assert says not in render_report(facts())


def test_few_labels_have_a_matrix_and_many_have_pairs() -> None:
    few = render_report(facts([f"l{i}" for i in range(20)], ours=200))
    assert 'class="matrix"' in few
    many = render_report(facts([f"l{i}" for i in range(150)], ours=200))
    assert 'class="matrix"' not in many
    assert "Most confused pairs" in many
    assert len(many) < 200_000
    assert "No example got a wrong label" in render_report(facts([f"l{i}" for i in range(21)], ours=300))


def test_most_confused_pairs_come_first() -> None:
    found = most_confused(
        {"labels": ["a", "b", "c"], "confusion": [[90, 5, 0], [0, 8, 2], [5, 0, 5]]},
        limit=2,
    )
    assert [(pair.true, pair.predicted, pair.n, pair.share) for pair in found] == [
        ("c", "a", 5, 0.5),
        ("a", "b", 5, 5 / 95),
    ]


def test_the_least_facts_make_a_page() -> None:
    source = render_report({"title": "Spam", "headline": {"split": "test", "metrics": metrics(["ham", "spam"], 9, 10)}})
    assert Page(source).open == []
    for section in ("Data", "Curves", "Baselines", "Settings", "Timing"):
        assert f">{section}</h2>" not in source
