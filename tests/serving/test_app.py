"""The application: errors as JSON, what holds for all interfaces, and no telemetry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving.conftest import TENSOR, TEXTS, served

from lasttoken.classifier.predict import PROBABILITY_DECIMALS
from lasttoken.serving.app import make_app
from lasttoken.serving.pending import ClosedError, DeadlineExceededError, QueueFullError
from lasttoken.serving.rejections import RejectedError

FIELDS = ("text", "texts", "input", "inputs", "model", "top_k", "parameters", "outputs", "shape", "data", "name")
PATHS = ("/", "/classify", "/predict", "/explain", "/models/spam", "/v2/models/spam/infer", "/v2/models/x/infer")
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(PATHS), body=ANY_JSON)
def test_no_json_causes_an_internal_error(client: TestClient, path: str, body: Any) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code < 500, (path, body, answer.text)


@pytest.mark.parametrize(
    ("error", "status", "error_type", "header"),
    [
        (RejectedError(418, "short and stout", {"x-pot": "tea"}), 418, "error", ("x-pot", "tea")),
        (QueueFullError(7), 429, "overloaded", ("retry-after", "7")),
        (DeadlineExceededError(), 504, "overloaded", None),
        (ClosedError(), 503, "overloaded", ("retry-after", "5")),
        (RuntimeError("a secret"), 500, "error", None),
    ],
)
def test_an_error_is_one_sentence_of_json(
    runs: list[Path], error: Exception, status: int, error_type: str, header: tuple[str, str] | None
) -> None:
    app, server = served(runs[:1])

    async def fail(*_: Any) -> None:
        raise error

    server.engine.classify = fail  # type: ignore[method-assign, assignment]
    answer = TestClient(app, raise_server_exceptions=False).post("/classify", json={"text": "a"})
    assert answer.status_code == status
    assert answer.json().keys() == {"error", "error_type"}
    assert answer.json()["error_type"] == error_type
    assert "secret" not in answer.text
    if header:
        assert answer.headers[header[0]] == header[1]


def test_unknown_paths_and_methods_are_rejected_in_json(client: TestClient) -> None:
    for method, path, status in (("POST", "/nowhere", 404), ("GET", "/classify", 405), ("PUT", "/", 405)):
        answer = client.request(method, path)
        assert answer.status_code == status
        assert answer.json().keys() == {"error", "error_type"}


def test_every_body_can_name_one_of_several_models(both: TestClient) -> None:
    for path, body in (("/", {"inputs": "a"}), ("/predict", {"inputs": "a"}), ("/classify", {"input": "a"})):
        unnamed = both.post(path, json=body)
        assert unnamed.status_code == 422
        assert "other" in unnamed.json()["error"]
        assert both.post(path, json={**body, "model": "other"}).status_code == 200
        assert both.post(path, json={**body, "model": "nobody"}).status_code == 404


def test_numbers_have_as_many_decimals_as_in_files(client: TestClient) -> None:
    answers = [
        client.post("/classify", json={"texts": TEXTS}),
        client.post("/classify", json={"input": TEXTS}),
        client.post("/", json={"inputs": TEXTS}),
        client.post("/v2/models/spam/infer", json={"inputs": [TENSOR | {"shape": [40], "data": TEXTS}]}),
        client.post("/explain", json={"text": TEXTS[0]}),
    ]
    for answer in answers:
        numbers = re.findall(r"\d+\.\d+(?!\d)(?!e)", answer.text)
        assert len(numbers) > 2
        assert max(len(number.split(".")[1]) for number in numbers) <= PROBABILITY_DECIMALS


def test_telemetry_is_off_in_any_environment(monkeypatch: pytest.MonkeyPatch, runs: list[Path]) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    _, server = served(runs[:1])
    app = make_app(server)
    assert app._telemetry["auto_configure"] is False
    assert not app._native_telemetry.enabled()
