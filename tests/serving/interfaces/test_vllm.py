"""vLLM's body of POST /classify, and the list of models as OpenAI's clients expect it."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving.conftest import TEXTS

from lasttoken.classifier.predict import Predictor


def test_input_is_answered_in_vllm_s_shape(client: TestClient, predictor: Predictor) -> None:
    answer = client.post("/classify", json={"model": "spam", "input": TEXTS[:3], "user": "someone"}).json()
    assert {"id", "object", "created", "model", "data", "usage"} == answer.keys()
    expected = predictor.predict(TEXTS[:3])
    for index, (row, prediction) in enumerate(zip(answer["data"], expected, strict=True)):
        assert (row["index"], row["label"], row["num_classes"]) == (index, prediction.label, 2)
        assert row["probs"] == pytest.approx(list(prediction.probs.values()), abs=1e-5)
    assert answer["usage"]["total_tokens"] == sum(prediction.n_tokens for prediction in expected)


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "x", "priority": 0, "add_special_tokens": False, "activation": True},
        {"truncate_prompt_tokens": -1, "use_activation": None, "softmax": True},
    ],
)
def test_a_field_that_changes_nothing_is_accepted(client: TestClient, fields: dict[str, Any]) -> None:
    assert client.post("/classify", json={"input": "a", **fields}).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"activation": False},
        {"use_activation": False},
        {"softmax": False},
        {"truncate_prompt_tokens": 2},
        {"truncation_side": "left"},
        {"mm_processor_kwargs": {}},
        {"top_k": 1},
    ],
)
def test_a_field_that_would_change_the_answer_is_rejected_by_its_name(
    client: TestClient, fields: dict[str, Any]
) -> None:
    answer = client.post("/classify", json={"input": "a", **fields})
    assert answer.status_code == 422
    assert next(iter(fields)) in answer.json()["error"]


def test_a_request_id_comes_back(client: TestClient) -> None:
    answer = client.post("/classify", json={"input": "a", "request_id": "mine"}).json()
    assert answer["id"].endswith("mine")


def test_models_are_listed_as_openai_s_clients_expect(both: TestClient) -> None:
    listed = both.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [card["id"] for card in listed["data"]] == ["spam", "other"]
    for card in listed["data"]:
        assert {"id", "object", "created", "owned_by", "root", "parent", "max_model_len"} <= card.keys()
        assert card["object"] == "model"
        assert both.get(f"/v1/models/{card['id']}").json() == card
    assert both.get("/v1/models/nobody").status_code == 404
