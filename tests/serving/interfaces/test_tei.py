"""text-embeddings-inference's POST /predict: texts, pairs, and texts that must not be truncated."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving.conftest import LONG_TEXT, TEXTS

from lasttoken.classifier.predict import Predictor


def test_a_text_is_answered_with_a_row_and_a_batch_with_rows(client: TestClient, predictor: Predictor) -> None:
    (expected,) = predictor.predict(TEXTS[:1])
    row = client.post("/predict", json={"inputs": TEXTS[0]}).json()
    assert row[0] == {"label": expected.label, "score": pytest.approx(expected.score, abs=1e-5)}
    assert client.post("/predict", json={"inputs": [TEXTS[0]]}).json() == row
    assert client.post("/predict", json={"inputs": [[TEXTS[0]]]}).json() == [row]


def test_a_pair_is_joined_into_one_text_and_two_lists_are_two_texts(client: TestClient, predictor: Predictor) -> None:
    rows = client.post("/predict", json={"inputs": [[TEXTS[0], TEXTS[1]], [TEXTS[2]]]}).json()
    pair, single = predictor.predict([f"{TEXTS[0]}\n\n{TEXTS[1]}", TEXTS[2]])
    assert [row[0]["score"] for row in rows] == pytest.approx([pair.score, single.score], abs=1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {"truncate": True, "raw_scores": False, "truncation_direction": "right"},
        {"truncation_direction": "Right"},
        {"inputs": ["a"], "truncate": None},
    ],
)
def test_a_field_that_changes_nothing_is_accepted(client: TestClient, fields: dict[str, Any]) -> None:
    assert client.post("/predict", json={"inputs": "a", **fields}).status_code == 200


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"raw_scores": True}, "raw_scores"),
        ({"truncation_direction": "left"}, "truncation_direction"),
        ({"truncate": "no"}, "truncate"),
        ({"prompt_name": "query"}, "prompt_name"),
        ({"inputs": ["one", "two"]}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [["a", "b", "c"]]}, "inputs"),
    ],
)
def test_a_field_that_would_change_the_answer_is_rejected_by_its_name(
    client: TestClient, fields: dict[str, Any], named: str
) -> None:
    answer = client.post("/predict", json={"inputs": "a", **fields})
    assert answer.status_code == 422
    assert named in answer.json()["error"]


def test_a_text_that_must_not_be_truncated_is_rejected(client: TestClient) -> None:
    assert client.post("/predict", json={"inputs": LONG_TEXT}).status_code == 200
    assert client.post("/predict", json={"inputs": "short", "truncate": False}).status_code == 200
    for inputs, index in ((LONG_TEXT, 0), ([["short"], [LONG_TEXT]], 1)):
        answer = client.post("/predict", json={"inputs": inputs, "truncate": False})
        assert answer.status_code == 413
        assert f"text {index} " in answer.json()["error"]
