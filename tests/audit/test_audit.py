"""The result of an audit: clean data has no findings, and its JSON is complete."""

from __future__ import annotations

import json
import random

from lasttoken.audit.audit import Audit
from lasttoken.audit.collecting import audit_splits
from lasttoken.data.files import Examples

LONG = "You have won a guaranteed prize of 1000 pounds, call the number below before the lines close"


LETTERS = "abcdefghijklmnopqrstuvwxyz"


def noise(n: int, seed: int = 1, n_words: int = 12) -> list[str]:
    """Texts of random words: nothing is alike, nothing tells a label."""
    rng = random.Random(seed)
    return [" ".join("".join(rng.choices(LETTERS, k=5)) for _ in range(n_words)) for _ in range(n)]


def found_in(texts: list[str], labels: list[str] | None = None) -> Audit:
    return audit_splits({"data": Examples(texts, labels or ["ab"[at % 2] for at in range(len(texts))])})


def test_clean_data_has_no_findings() -> None:
    found = found_in(noise(300))
    assert found.sentences() == ()
    assert found.splits["data"].repeats == {"exact": 0, "normalised": 0, "near": 0}


def test_json_is_json_and_whole() -> None:
    train = Examples([LONG, LONG, *noise(200)], ["a", "b", *"ab" * 100])
    content = json.loads(json.dumps(audit_splits({"train": train, "test": train}).to_json()))
    assert len(content["leaks"]) == 202
    assert content["conflicts"][0]["rows"][1] == {"split": "train", "row": 2, "text": LONG, "label": "b"}
    assert content["n_leaks"] == [{"split": "test", "earlier": "train", "exact": 202, "normalised": 0, "near": 0}]
    assert {one["word"] for one in content["shortcuts"]} >= {None}


def test_no_rows_at_all() -> None:
    assert audit_splits({"train": Examples([], [])}).sentences() == ()
    assert audit_splits({"train": Examples([], []), "test": Examples([], [])}).leaked_rows()["test"].tolist() == []
