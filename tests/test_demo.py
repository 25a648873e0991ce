"""The bundled messages, and the demo that a stranger runs first."""

from __future__ import annotations

import csv
import json
from importlib import resources
from itertools import combinations
from pathlib import Path

import pytest
from miniature import run_cli


def bundled() -> list[dict[str, str]]:
    content = (resources.files("lasttoken") / "demo" / "messages.csv").read_text("utf-8")
    return list(csv.DictReader(content.splitlines(), strict=True))


def test_there_are_400_messages_half_of_them_spam() -> None:
    labels = [row["label"] for row in bundled()]
    assert len(labels) == 400
    assert labels.count("spam") == labels.count("ham") == 200


def test_messages_are_short_and_clean() -> None:
    for row in bundled():
        assert row.keys() == {"text", "label"}
        assert row["text"] == row["text"].strip()
        assert 1 <= len(row["text"]) <= 300


def grams(text: str, n: int = 5) -> set[str]:
    plain = " ".join(text.lower().split())
    return {plain[at : at + n] for at in range(len(plain) - n + 1)}


def test_no_two_messages_are_alike() -> None:
    """Written one by one: the Jaccard similarity of two messages' character 5-grams stays below a half."""
    texts = [row["text"] for row in bundled()]
    assert len({text.lower() for text in texts}) == len(texts)
    sets = [grams(text) for text in texts]
    alike = [
        (texts[i], texts[j])
        for i, j in combinations(range(len(texts)), 2)
        if sets[i] and sets[j] and len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.5
    ]
    assert alike == []


@pytest.mark.slow
def test_the_demo_leaves_a_complete_run_and_classifies(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    answer = run_cli("demo", "--out", out, "--offline")
    assert answer.code == 0, answer.err
    metrics = json.loads((out / "metrics.json").read_text("utf-8"))
    assert sum(metrics["examples"].values()) == 400
    assert metrics["splits"]["test"]["accuracy"] > metrics["baselines"]["majority"]["test"]["accuracy"]
    for name in ("model.safetensors", "report.html", "run.toml", "curves/loss.pdf", "splits/test.csv"):
        assert (out / name).stat().st_size > 0
    *_, first, second = answer.out.splitlines()
    assert first.endswith("parcel.example.net")
    assert second.endswith("a coffee?")
    assert {line.split("\t")[0] for line in (first, second)} <= {"ham", "spam"}
    assert "illustrative" in answer.err
    assert f"lasttoken predict {out} 'your text'" in answer.err
    said = run_cli("predict", out, "Running late, order me a coffee?").out
    assert said.split("\t")[:2] == second.split("\t")[:2]
