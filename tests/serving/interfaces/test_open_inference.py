"""The Open Inference Protocol: metadata, health, and tensors of texts and scores."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving.conftest import TENSOR, TEXTS

from lasttoken.classifier.predict import Predictor
from lasttoken.serving.interfaces.open_inference import OUTPUTS

INFER = "/v2/models/spam/infer"


def test_server_and_models_describe_themselves(client: TestClient) -> None:
    assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
    assert client.get("/v2").json()["name"] == "lasttoken"
    assert client.get("/v2/models/spam/ready").json() == {"name": "spam", "ready": True}
    described = client.get("/v2/models/spam").json()
    assert described["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert {output["name"]: output["shape"] for output in described["outputs"]}["probs"] == [-1, 2]
    assert client.get("/v2/models/nobody").status_code == 404


def test_texts_are_answered_with_output_tensors(client: TestClient, predictor: Predictor) -> None:
    tensor = {"name": "text", "shape": [3, 1], "datatype": "BYTES", "data": [[text] for text in TEXTS[:3]]}
    answer = client.post(INFER, json={"id": "42", "inputs": [tensor]}).json()
    assert (answer["model_name"], answer["id"]) == ("spam", "42")
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert list(outputs) == list(OUTPUTS)
    expected = predictor.predict(TEXTS[:3])
    assert outputs["label"]["data"] == [prediction.label for prediction in expected]
    assert outputs["probs"]["shape"] == [3, 2]
    probs = [p for prediction in expected for p in prediction.probs.values()]
    assert outputs["probs"]["data"] == pytest.approx(probs, abs=1e-5)


def test_only_the_outputs_that_are_asked_for_are_returned(client: TestClient) -> None:
    answer = client.post(INFER, json={"inputs": [TENSOR], "outputs": [{"name": "score"}]}).json()
    assert [output["name"] for output in answer["outputs"]] == ["score"]
    assert "id" not in answer


def test_a_field_that_changes_nothing_is_accepted(client: TestClient) -> None:
    body = {"inputs": [TENSOR], "parameters": {"content_type": "str"}, "outputs": [{"name": "score"}]}
    assert client.post(INFER, json=body).status_code == 200


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"inputs": []}, "0 inputs"),
        ({"inputs": [TENSOR | {"shape": [2]}]}, "[1]"),
        ({"inputs": [TENSOR | {"datatype": "FP32", "data": [1.0]}]}, "datatype"),
        ({"outputs": [{"name": "logits"}]}, "'logits'"),
        ({"parameters": {"binary_data_output": True}}, "binary_data_output"),
        ({"inputs": [TENSOR | {"parameters": {"content_type": "np"}}]}, "content_type"),
        ({"outputs": [{"name": "score", "parameters": {"classification": 1}}]}, "classification"),
    ],
)
def test_what_is_not_supported_is_rejected_by_its_name(client: TestClient, fields: dict[str, Any], named: str) -> None:
    answer = client.post(INFER, json={"inputs": [TENSOR], **fields})
    assert answer.status_code == 422, answer.text
    assert named in answer.json()["error"]
