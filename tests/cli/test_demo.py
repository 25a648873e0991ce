"""The bundled messages, and the demo that a new user runs first."""

from __future__ import annotations

import csv
import json
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from miniature import run_cli

SPAM, HAM = "parcel.example.net", "order me a coffee?"  # the ends of the two texts that the demo classifies


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


def shingles(text: str, n: int = 5) -> set[str]:
    plain = " ".join(text.lower().split())
    return {plain[start : start + n] for start in range(len(plain) - n + 1)}


def similar_pairs(texts: list[str]) -> list[tuple[str, str]]:
    """Pairs whose Jaccard similarity of character 5-grams is at least a half."""
    sets = [shingles(text) for text in texts]
    return [
        (texts[i], texts[j])
        for i, j in combinations(range(len(texts)), 2)
        if sets[i] and sets[j] and len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.5
    ]


def test_no_two_messages_are_similar() -> None:
    texts = [row["text"] for row in bundled()]
    assert len({text.lower() for text in texts}) == len(texts)
    assert similar_pairs(texts) == []
    changed = texts[0].replace("a", "e", 1)
    assert similar_pairs([*texts, changed]) == [(texts[0], changed)]


@pytest.mark.slow
@pytest.mark.usefixtures("real_figures")
def test_the_demo_leaves_a_complete_run_and_classifies(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    answer = run_cli("demo", "--out", out, "--offline")
    assert answer.code == 0, answer.err
    metrics = json.loads((out / "metrics.json").read_text("utf-8"))
    _check_metrics(metrics)
    for name in ("model.safetensors", "run.toml", "curves/loss.pdf"):
        assert (out / name).stat().st_size > 0
    verdict = metrics["verdict"]["sentences"][0]
    assert verdict in answer.out + answer.err
    assert verdict in (out / "report.html").read_text("utf-8").replace("&#39;", "'")
    n_rows = {
        name: len((out / "splits" / f"{name}.csv").read_text("utf-8").splitlines()) - 1 for name in metrics["examples"]
    }
    assert n_rows == metrics["examples"] == {"train": 280, "validation": 40, "test": 80}

    spam, ham = (line.split("\t") for line in answer.out.splitlines()[-2:])
    assert (spam[0], ham[0]) == ("spam", "ham")
    assert spam[-1].endswith(SPAM)
    assert ham[-1].endswith(HAM)
    assert 0.5 < float(spam[1]) <= 1
    assert 0.5 < float(ham[1]) <= 1
    assert "illustrat" in answer.err  # the metrics of so few messages only illustrate
    assert f"lasttoken predict {out} 'your text'" in answer.err
    assert run_cli("predict", out, ham[-1]).out.split("\t")[:2] == ham[:2]


def _check_metrics(metrics: dict[str, Any]) -> None:
    """The classifier has learned, its interval holds its accuracy, and every baseline is measured on the same rows."""
    test = metrics["splits"]["test"]
    low, high = test["accuracy_ci95"]
    assert 0.5 < low < test["accuracy"] < high < 1
    assert 0.1 < high - low < 0.25  # 95 % of 80 rows
    baselines = metrics["baselines"]
    assert set(baselines) == {"majority", "length-only", "tfidf-logreg", "char-ngrams"}
    assert {baseline["test"]["n"] for baseline in baselines.values()} == {80}
    assert test["accuracy"] > baselines["majority"]["test"]["accuracy"] == 0.5
