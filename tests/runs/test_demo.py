"""The bundled messages of the demo, and the settings that it trains them with."""

from __future__ import annotations

import csv
from importlib import resources
from itertools import combinations
from pathlib import Path

import pytest
from miniature import POCKET

from lasttoken.runs import demo
from lasttoken.runs.train import TrainingRequest


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


def test_the_demo_trains_the_bundled_messages_with_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[TrainingRequest] = []

    def recorded(request: TrainingRequest) -> None:
        assert isinstance(request.data, Path)
        assert len(request.data.read_text("utf-8").splitlines()) == 401
        requests.append(request)

    monkeypatch.setattr(demo, "train_run", recorded)
    demo.run_demo(tmp_path / "demo", overwrite=True, offline=True)
    (request,) = requests
    assert (request.out, request.overwrite, request.offline) == (tmp_path / "demo", True, True)
    assert (request.settings.backbone, request.settings.recipe) == (POCKET, "default")
