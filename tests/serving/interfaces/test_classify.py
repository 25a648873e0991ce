"""POST /classify: our own body and vLLM's on one path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving.conftest import TEXTS

from lasttoken.classifier.predict import Predictor


def test_one_text_and_many_are_answered_as_predict_does(client: TestClient, predictor: Predictor) -> None:
    answer = client.post("/classify", json={"texts": TEXTS}).json()
    assert answer["model"] == "spam"
    for row, expected in zip(answer["predictions"], predictor.predict(TEXTS), strict=True):
        assert row["label"] == expected.label
        assert row["probs"] == pytest.approx(expected.probs, abs=1e-5)
        assert row["score"] == pytest.approx(expected.score, abs=1e-5)
        assert (row["n_tokens"], row["truncated"]) == (expected.n_tokens, expected.truncated)
    single = client.post("/classify", json={"text": TEXTS[0], "top_k": 1}).json()
    assert single["label"] == answer["predictions"][0]["label"]
    assert list(single["probs"]) == [single["label"]]


def test_several_models_share_a_trunk_and_answer_as_if_alone(both: TestClient, runs: list[Path]) -> None:
    answers = both.post("/classify", json={"texts": TEXTS, "model": "*"}).json()["models"]
    for run in runs:
        alone = Predictor.load(run, "cpu").predict(TEXTS)
        rows = answers[run.name]["predictions"]
        assert [row["label"] for row in rows] == [expected.label for expected in alone]
        for row, expected in zip(rows, alone, strict=True):
            assert row["probs"] == pytest.approx(expected.probs, abs=1e-5)
    assert set(both.post("/classify", json={"text": "a", "model": "other"}).json()["probs"]) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({}, 422, '"texts"'),
        ({"text": "a", "texts": ["b"]}, 422, '"texts"'),
        ({"texts": []}, 422, "texts"),
        ({"texts": ["a"] * 51}, 413, "50"),
        ({"text": "a" * 2001}, 422, "2,001"),
        ({"text": 7}, 422, "text"),
        ({"text": "a", "topk": 2}, 422, "'topk'"),
        ({"text": "a", "top_k": 0}, 422, "top_k"),
        ({"text": "a", "model": "nobody"}, 404, "spam"),
        ({"text": "x\ud800"}, 422, "surrogate"),
        ({"text": "a", "user": "somebody"}, 422, "'user'"),
    ],
)
def test_an_invalid_body_is_rejected(client: TestClient, body: Any, status: int, named: str) -> None:
    answer = client.post("/classify", content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert named in answer.json()["error"]


def test_one_of_several_models_must_be_named(both: TestClient) -> None:
    answer = both.post("/classify", json={"text": "a"})
    assert answer.status_code == 422
    assert "other" in answer.json()["error"]


def test_a_text_alone_and_among_others_is_answered_in_the_same_bytes(client: TestClient) -> None:
    together = client.post("/classify", json={"texts": TEXTS}).json()["predictions"]
    alone = [client.post("/classify", json={"text": text}).json() for text in TEXTS]
    for row in alone:
        del row["model"]
    n_different = sum(json.dumps(a) != json.dumps(b) for a, b in zip(alone, together, strict=True))
    assert n_different <= 10  # of 40, where a probability lies between two roundings; with eight decimals most differ


def test_an_empty_list_of_texts_is_reported_before_a_missing_model(both: TestClient) -> None:
    answer = both.post("/classify", json={"texts": []})
    assert (answer.status_code, '"texts"' in answer.json()["error"]) == (422, True)
