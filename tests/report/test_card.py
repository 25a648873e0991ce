"""The model card: metadata Hugging Face's own parser takes, and users' texts that stay texts."""

from __future__ import annotations

from typing import Any

import pytest
from huggingface_hub import ModelCard, ModelCardData

from lasttoken.report.card import escape, render_card

NASTY = "x: [y `|` <script>alert(1)</script> # 'q' \"\n---\n😀 \x7f"
TEST = {
    "n": 300,
    "accuracy": 0.95,
    "accuracy_ci95": [0.92, 0.97],
    "macro_f1": 0.9,
    "loss": None,
    "per_label": {"ham": {}, "spam": {}},
}


def facts(**more: Any) -> dict[str, Any]:
    return {
        "title": "Spam",
        "run": {"backbone": "gpt2", "data": "m.csv"},
        "headline": {"split": "test", "metrics": TEST},
        **more,
    }


def read(card: str) -> ModelCardData:
    data = ModelCard(card).data
    assert isinstance(data, ModelCardData)
    return data


def test_the_metadata_is_what_the_hub_reads() -> None:
    data = read(render_card(facts()))
    assert (data.library_name, data.pipeline_tag, data.base_model) == ("lasttoken", "text-classification", "gpt2")
    assert [(one.metric_type, one.metric_value) for one in data.eval_results or []] == [
        ("accuracy", 0.95),
        ("macro_f1", 0.9),
    ]
    assert {(one.dataset_name, one.dataset_split) for one in data.eval_results or []} == {("m.csv", "test")}


@pytest.mark.parametrize("backbone", ["./gpt2-here/x", "/models/gpt2", "C:\\gpt2", "pocket", ""])
def test_a_backbone_that_is_no_hub_id_is_no_base_model(backbone: str) -> None:
    assert read(render_card(facts(run={"backbone": backbone, "data": "m.csv"}))).base_model is None


def test_what_users_wrote_stays_text() -> None:
    metrics = {**TEST, "labels": ["ham", NASTY], "per_label": {}}
    card = render_card(
        facts(
            title=NASTY,
            run={"backbone": NASTY, "data": NASTY},
            headline={"split": "test", "metrics": metrics},
            baselines={NASTY: {"test": TEST}},
            warnings=[NASTY],
            audit={"sentences": [NASTY]},
            verdict={"sentences": [NASTY]},
            decision={"sentence": NASTY},
        )
    )
    parsed = read(card)
    assert parsed.model_name == NASTY
    assert {one.dataset_name for one in parsed.eval_results or []} == {NASTY}
    body = ModelCard(card).text
    assert "<script" not in body
    assert "\n---\n" not in body
    assert len({line.replace("\\|", "").count("|") for line in body.splitlines() if line.startswith("|")}) == 1


def test_every_part_comes_from_its_facts() -> None:
    calibration = {
        "temperature": 1.7,
        "split": "test",
        "before": {"ece": 0.1, "ece_ci95": [0.05, 0.15]},
        "after": {"ece": 0.02},
    }
    card = render_card(
        facts(
            baselines={"majority": {"test": {"accuracy": 0.5}}},
            verdict={"sentences": ["Better than majority"]},
            data={"counts": {"train": {"ham": 500, "spam": 545}}, "notes": ["403 duplicates"]},
            calibration=calibration,
            decision={"sentence": "spam only from 0.90"},
            command="lasttoken train `m`.csv",
        )
    )
    for wanted in (
        "| Accuracy | 0.950 (0.920 to 0.970) | 0.500 |",
        "Better than majority",
        "- train: 1,045 examples",
        "- 403 duplicates",
        "temperature of 1.7",
        "0.100 (0.050 to 0.150) before, 0.020 after",
        "spam only from 0.90",
        "lasttoken train `m`.csv",
    ):
        assert wanted in card
    bare = render_card(facts())
    assert not any(f"## {part}" in bare for part in ("Data", "Calibration", "Decision", "Reproduce"))


def test_escaped_text_is_one_line() -> None:
    assert escape("a\nb  |c") == "a b \\|c"
