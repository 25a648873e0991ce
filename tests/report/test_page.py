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
from lasttoken.report.plots import draw_plots
from lasttoken.report.sections import MAX_TEXT, example

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


def test_every_section_and_its_metrics_are_there(tmp_path: Path) -> None:
    history = [{"step": 1, "epoch": 1.0, "examples_seen": 8, "train_loss": 0.5, "train_accuracy": 0.9}]
    source = render_report(facts(curves=draw_curves(history, tmp_path)))
    page = Page(source)
    assert page.open == []
    assert source.startswith("<!doctype html>")
    assert source.count("<svg style=") == 2
    text = " ".join(page.words.replace("\N{NO-BREAK SPACE}", " ").split())
    for wanted in (
        "Accuracy on test 98.3 % 95 % interval 96.2 % to 99.3 %, on 300 examples.",
        "Texts of test that are also in train: 37 of 300",
        "The longest train text has 120 tokens. Texts that were too long: 3,",
        "211 tokens",
        "403 rows are exact duplicates.",
        "tfidf-logreg was not fitted: no words",
        "train 1,045 100 % 99.6 % – 100 %",
        "learning_rate 5e-05 text Text max_length not set causal_mask true",
        "trunk 40.1 s",
        "torch 2.13.0",
    ):
        assert wanted in text


def test_the_page_is_self_contained(tmp_path: Path) -> None:
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


def test_text_from_users_is_escaped() -> None:
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


def test_a_page_without_baselines_says_so() -> None:
    text = Page(render_report(facts(baselines={}, baseline_notes=[]))).text
    assert "no baseline to compare with" in text
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
    assert "Every example is predicted correctly" in render_report(facts([f"l{i}" for i in range(21)], ours=300))


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


def all_facts(text: str = "Free entry", labels: list[str] | None = None) -> dict[str, Any]:
    """Every optional key, with `text` wherever a user's text can stand."""
    bins = [{"n": 20, "confidence": 0.9, "accuracy": 0.8, "accuracy_ci95": [0.6, 0.9]}]
    point = {"n_train": 100, "accuracy": 0.9, "accuracy_ci95": [0.8, 0.95], "baseline_accuracy": None}
    found = {"row": 17, "text": text, "label": text, "predicted": f"not {text}", "score": 0.98, "words": [[text, 0.3]]}
    return facts(
        labels,
        verdict={"sentences": [f"Better than {text}.", "Slower."], "baseline": "majority"},
        warnings=[f"Collapse on {text}"],
        audit={
            "sentences": [f"Audited {text}"],
            "lists": [{"title": text, "rows": [{"where": text, "text": text, "label": text}], "n": 23}],
        },
        unleaked={"test": {"n": 263, "accuracy": 0.957, "accuracy_ci95": [0.925, 0.976]}},
        calibration={
            "temperature": 1.7,
            "split": "test",
            "before": {"ece": 0.1},
            "after": {"ece": 0.02},
            "bins_before": bins,
            "bins_after": bins,
        },
        pr_curve={text: {"precision": [1.0, 0.5], "recall": [0.0, 1.0], "average_precision": 0.75, "n": 150}},
        decision={"sentence": f"{text} from 0.90"},
        slices=[{"by": text, "value": text, "n": 9, "accuracy": 0.5, "accuracy_ci95": [0.2, 0.8]}],
        errors=[found],
        unsure=[{**found, "words": None}],
        learning_curve={"points": [point], "baseline": text, "sentence": text},
        repeats={
            "kind": "seeds",
            "runs": [{"name": text, "accuracy": 0.9}],
            "mean": {"accuracy": 0.9},
            "sd": {"accuracy": 0.1},
        },
        command=f"lasttoken train {text}",
    )


OPTIONAL_SECTIONS = ("calibration", "pr", "slices", "errors", "learning", "repeats")


@pytest.mark.parametrize("text", ["Free entry", NASTY, "$x_{", "_hidden", "half \ud83d", "\N{BELL}\n|", ""])
def test_every_optional_part_is_shown_and_escaped(text: str, tmp_path: Path) -> None:
    given = all_facts(text)
    source = render_report({**given, "curves": draw_plots(given, tmp_path)})
    page = Page(source)
    assert page.open == []
    assert "<script" not in source
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(OPTIONAL_SECTIONS) <= set(ids)
    figures = [attributes for _, attributes in page.tags if attributes.get("role") == "img"]
    assert len(figures) == 3
    assert all(attributes["aria-label"] for attributes in figures)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in zip([0, *levels], levels, strict=False))
    assert not {"script", "link", "iframe", "object", "img", "base"} & {tag for tag, _ in page.tags}


def test_the_first_screen_says_the_verdict_beside_number_and_baseline() -> None:
    text = Page(render_report(all_facts())).words
    first = text[: text.index("On test")]
    for wanted in ("98.3", "majority, the best baseline", "Better than Free entry.", "263 examples", "Collapse on"):
        assert wanted in first


def test_what_is_absent_leaves_its_section_out() -> None:
    ids = {attributes.get("id") for _, attributes in Page(render_report(facts())).tags}
    assert not ids & set(OPTIONAL_SECTIONS)


def test_uneven_labels_bring_their_own_figures_with_intervals() -> None:
    uneven = metrics(["ham", "spam"], 295, 300) | {"balanced_accuracy": 0.912, "balanced_accuracy_ci95": [0.87, 0.95]}
    uneven["per_label"]["ham"]["n"] = 400
    source = render_report(facts(headline={"split": "test", "metrics": uneven}))
    assert "Balanced accuracy" in source
    assert "0.870 – 0.950" in source
    assert "Balanced accuracy" not in render_report(facts())


def test_several_labels_an_example_have_no_confusion() -> None:
    per_label = {"a": {"n": 9, "precision": 0.5, "recall": 0.5, "f1": 0.5}}
    many = {"n": 10, "subset_accuracy": 0.7, "micro_f1": 0.8, "macro_f1": 0.75, "mAP": 0.9, "per_label": per_label}
    source = render_report({"title": "T", "multi_label": True, "headline": {"split": "test", "metrics": many}})
    for wanted in ("Micro-F1 on test", "Subset accuracy", "mAP"):
        assert wanted in source
    assert 'id="confusion"' not in source


def test_ten_thousand_labels_stay_a_small_page() -> None:
    labels = [f"label {i}" for i in range(10_000)]
    one = {"n": 1, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    many = {
        "n": 10_000,
        "accuracy": 0.5,
        "accuracy_ci95": [0.4, 0.6],
        "labels": labels,
        "per_label": dict.fromkeys(labels, one),
        "confusion": None,
        "confused": [[0, 1, 1]],
    }
    counts = {"train": dict.fromkeys(labels, 1)}
    source = render_report({"title": "T", "headline": {"split": "test", "metrics": many}, "data": {"counts": counts}})
    assert "9,950 more" in source
    assert len(source) < 100_000


@pytest.mark.parametrize("size", [1, 7, 599, 601])
def test_long_texts_and_their_words_are_shortened_alike(size: int) -> None:
    text = "a" * 2000
    words = [[text[at : at + size], 0.1] for at in range(0, len(text), size)]
    shown = example({"row": 1, "text": text, "words": words})
    assert "".join(word.text for word in shown["words"]) == shown["text"] == "a" * MAX_TEXT + "…"


@pytest.mark.parametrize("theme", [0, 1, 2])
def test_text_stands_out_from_its_ground(theme: int) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    colors = [
        dict(re.findall(r"--([\w-]+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", render_report(facts()), re.DOTALL)
    ][theme]
    for ground, inks in {"paper": ("ink", "soft", "ours", "rival"), "panel": ("ink", "soft"), "warn": ("ink",)}.items():
        for ink in inks:
            light, dark = sorted((luminance(colors[ink]), luminance(colors[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def luminance(color: str) -> float:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
