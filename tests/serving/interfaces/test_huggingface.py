"""The Hugging Face text-classification task at / and /models/NAME."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving.conftest import TEXTS

from lasttoken.classifier.predict import Predictor


@pytest.mark.parametrize("path", ["/", "/models/spam"])
def test_labels_come_with_their_scores_the_likeliest_first(client: TestClient, predictor: Predictor, path: str) -> None:
    (expected,) = predictor.predict(TEXTS[:1])
    (row,) = client.post(path, json={"inputs": TEXTS[0], "parameters": {"top_k": 2}}).json()
    assert [entry["label"] for entry in row] == sorted(expected.probs, key=lambda label: -expected.probs[label])
    assert row[0]["score"] == pytest.approx(expected.score, abs=1e-5)


def test_a_list_of_texts_has_a_row_for_each(client: TestClient) -> None:
    assert len(client.post("/", json={"inputs": TEXTS}).json()) == len(TEXTS)
    (row,) = client.post("/", json={"inputs": TEXTS[0], "parameters": {"top_k": 1}}).json()
    assert len(row) == 1


@pytest.mark.parametrize(
    "fields", [{"parameters": None}, {"options": {"wait_for_model": True}, "parameters": {"truncation": True}}]
)
def test_a_field_that_changes_nothing_is_accepted(client: TestClient, fields: dict[str, Any]) -> None:
    assert client.post("/", json={"inputs": "a", **fields}).status_code == 200


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"parameters": {"max_length": 8}}, "max_length"),
        ({"parameters": {"truncation": False}}, "truncation"),
        ({"parameters": {"function_to_apply": "none"}}, "softmax"),
        ({"parameters": {"return_all_scores": False}}, "return_all_scores"),
        ({"candidate_labels": ["a"]}, "candidate_labels"),
        ({"inputs": {"text": "a"}}, "inputs"),
    ],
)
def test_a_field_that_would_change_the_answer_is_rejected_by_its_name(
    client: TestClient, fields: dict[str, Any], named: str
) -> None:
    answer = client.post("/", json={"inputs": "a", **fields})
    assert answer.status_code == 422
    assert named in answer.json()["error"]


def test_the_address_names_the_model(both: TestClient) -> None:
    assert both.post("/models/other", json={"inputs": "a"}).status_code == 200
    assert both.post("/models/other", json={"inputs": "a", "model": "other"}).status_code == 200
    contradiction = both.post("/models/other", json={"inputs": "a", "model": "spam"})
    assert contradiction.status_code == 422
    assert "'model'" in contradiction.json()["error"]
    assert both.post("/models/nobody", json={"inputs": "a"}).status_code == 404
