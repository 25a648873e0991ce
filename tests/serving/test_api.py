"""The routes: every interface's own body, answers equal to `predict`, and what is refused in a sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from miniature import messages
from serving.conftest import TOKEN, served

from lasttoken.classifier.predict import Predictor

TEXTS, _ = messages(12)


def expect(predictor: Predictor, texts: list[str]) -> list[Any]:
    return predictor.predict(texts)


# Answers -------------------------------------------------------------------------------------------------------------


def test_one_text_and_many_are_answered_as_predict_does(client: TestClient, predictor: Predictor) -> None:
    found = client.post("/classify", json={"texts": TEXTS}).json()
    assert found["model"] == "spam"
    for row, one in zip(found["predictions"], expect(predictor, TEXTS), strict=True):
        assert row["label"] == one.label
        assert row["probs"] == pytest.approx(one.probs, abs=1e-5)
        assert row["score"] == pytest.approx(one.score, abs=1e-5)
        assert (row["n_tokens"], row["truncated"]) == (one.n_tokens, one.truncated)
    single = client.post("/classify", json={"text": TEXTS[0], "top_k": 1}).json()
    assert single["label"] == found["predictions"][0]["label"]
    assert list(single["probs"]) == [single["label"]]


def test_the_hugging_face_task(client: TestClient, predictor: Predictor) -> None:
    one = expect(predictor, TEXTS[:1])[0]
    for path in ("/", "/models/spam"):
        (found,) = client.post(path, json={"inputs": TEXTS[0], "parameters": {"top_k": 2}}).json()
        assert [row["label"] for row in found] == sorted(one.probs, key=lambda label: -one.probs[label])
        assert found[0]["score"] == pytest.approx(one.score, abs=1e-5)
    assert len(client.post("/", json={"inputs": TEXTS}).json()) == 12
    assert client.post("/", json={"inputs": TEXTS[0], "parameters": None}).status_code == 200
    assert len(client.post("/", json={"inputs": TEXTS[0], "parameters": {"top_k": 1}}).json()[0]) == 1


def test_text_embeddings_inference_s_predict(client: TestClient, predictor: Predictor) -> None:
    one, pair = expect(predictor, [TEXTS[0], f"{TEXTS[1]}\n\n{TEXTS[2]}"])
    single = client.post("/predict", json={"inputs": TEXTS[0]}).json()
    assert single[0] == {"label": one.label, "score": pytest.approx(one.score, abs=1e-5)}
    batch = client.post("/predict", json={"inputs": [[TEXTS[0]], [TEXTS[1], TEXTS[2]]], "truncate": True}).json()
    assert [rows[0]["label"] for rows in batch] == [one.label, pair.label]
    assert batch[1][0]["score"] == pytest.approx(pair.score, abs=1e-5)
    alone = client.post("/predict", json={"inputs": [TEXTS[0]]}).json()
    assert alone == single


def test_vllm_s_classify(client: TestClient, predictor: Predictor) -> None:
    found = client.post("/classify", json={"model": "spam", "input": TEXTS[:3], "user": "someone"}).json()
    assert {"id", "object", "created", "model", "data", "usage"} == found.keys()
    for index, (row, one) in enumerate(zip(found["data"], expect(predictor, TEXTS[:3]), strict=True)):
        assert (row["index"], row["label"], row["num_classes"]) == (index, one.label, 2)
        assert row["probs"] == pytest.approx(list(one.probs.values()), abs=1e-5)
    assert found["usage"]["total_tokens"] == sum(one.n_tokens for one in expect(predictor, TEXTS[:3]))


def test_the_open_inference_protocol(client: TestClient, predictor: Predictor) -> None:
    assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
    assert client.get("/v2").json()["name"] == "lasttoken"
    assert client.get("/v2/models/spam/ready").json() == {"name": "spam", "ready": True}
    described = client.get("/v2/models/spam").json()
    assert described["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    tensor = {"name": "text", "shape": [3, 1], "datatype": "BYTES", "data": [[text] for text in TEXTS[:3]]}
    found = client.post("/v2/models/spam/infer", json={"id": "42", "inputs": [tensor]}).json()
    assert (found["model_name"], found["id"]) == ("spam", "42")
    outputs = {one["name"]: one for one in found["outputs"]}
    expected = expect(predictor, TEXTS[:3])
    assert outputs["label"]["data"] == [one.label for one in expected]
    assert outputs["probs"]["shape"] == [3, 2]
    assert outputs["probs"]["data"] == pytest.approx([p for one in expected for p in one.probs.values()], abs=1e-5)
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    only = client.post("/v2/models/spam/infer", json={"inputs": [tensor], "outputs": [{"name": "score"}]}).json()
    assert [one["name"] for one in only["outputs"]] == ["score"]


def test_several_models_share_a_trunk_and_answer_as_if_alone(both: TestClient, runs: list[Any]) -> None:
    assert both.get("/info").json()["trunks"] == [["spam", "other"]]
    found = both.post("/classify", json={"texts": TEXTS, "model": "*"}).json()["models"]
    for run in runs:
        alone = Predictor.load(run, "cpu").predict(TEXTS)
        rows = found[run.name]["predictions"]
        assert [row["label"] for row in rows] == [one.label for one in alone]
        for row, one in zip(rows, alone, strict=True):
            assert row["probs"] == pytest.approx(one.probs, abs=1e-5)
    assert set(both.post("/classify", json={"text": "a", "model": "other"}).json()["probs"]) == {"a", "b", "c"}
    assert both.post("/models/other", json={"inputs": "a"}).status_code == 200
    assert "several models" in both.post("/classify", json={"text": "a"}).json()["error"]


def test_words_that_moved_a_decision(client: TestClient) -> None:
    found = client.post("/explain", json={"text": "Win prize number 7 now", "label": "spam"}).json()
    assert "".join(word for word, _ in found["words"]) == "Win prize number 7 now"
    assert found["label"] == "spam"
    assert client.post("/explain", json={"text": "a", "label": "eggs"}).status_code == 422


def test_info_tells_labels_figures_and_limits(client: TestClient) -> None:
    found = client.get("/info").json()
    assert found["models"]["spam"]["labels"] == ["ham", "spam"]
    assert found["models"]["spam"]["metrics"]["test"]["accuracy_ci95"]
    assert found["models"]["spam"]["text_columns"] == ["text"]
    assert found["models"]["spam"]["verdict"]
    assert found["limits"]["texts"] == 50
    assert found["token_needed"] is False


# Refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/classify", {}, 422, 'give one of "text", "texts" and "input"'),
        ("/classify", {"text": "a", "texts": ["b"]}, 422, 'give one of "text"'),
        ("/classify", {"texts": []}, 422, "there are no texts"),
        ("/classify", {"texts": ["a"] * 51}, 413, "at most 50"),
        ("/classify", {"text": "a" * 2001}, 422, "text 0 has 2,001 characters; at most 2,000"),
        ("/classify", {"text": 7}, 422, "text"),
        ("/classify", {"text": "a", "topk": 2}, 422, "'topk'"),
        ("/classify", {"text": "a", "top_k": 0}, 422, "top_k"),
        ("/classify", {"text": "a", "model": "nobody"}, 404, "no such model"),
        ("/classify", {"text": "x\ud800"}, 422, "surrogate"),
        ("/", {"inputs": {"text": "a"}}, 422, "inputs"),
        ("/", {"inputs": "a", "parameters": {"function_to_apply": "none"}}, 422, "must be softmax"),
        ("/predict", {"inputs": [["a", "b", "c"]]}, 422, "two that belong together"),
        ("/models/nobody", {"inputs": "a"}, 404, "no such model"),
        ("/v2/models/spam/infer", {"inputs": []}, 422, "there are 0 inputs"),
        (
            "/v2/models/spam/infer",
            {"inputs": [{"name": "t", "shape": [2], "datatype": "BYTES", "data": ["a"]}]},
            422,
            "shape must be [1]",
        ),
        (
            "/v2/models/spam/infer",
            {"inputs": [{"name": "t", "shape": [1], "datatype": "FP32", "data": [1.0]}]},
            422,
            "datatype",
        ),
        ("/explain", {"text": "a" * 2001}, 422, "at most 2,000"),
        ("/nowhere", {}, 404, "not found"),
    ],
)
def test_what_is_refused(client: TestClient, path: str, body: Any, status: int, words: str) -> None:
    content = json.dumps(body)
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]
    assert answer.json().keys() == {"error", "error_type"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "column 0"),
        (b"{", "column 1"),
        (b"[]", "JSON object"),
        (b"null", "JSON object"),
        (b'"a"', "JSON object"),
        (b"\xff\xfe", "column 1"),
        (b'{"text": "\xff"}', "UTF-8"),
        (b'{"text": "a"', "column 12"),
        (b"1e999", "JSON object"),
        (b"[" * 150, "JSON"),
        (b"[" * 5000, "values"),
        (b'{"text": NaN}', "JSON"),
        (b"9" * 5000, "JSON"),
    ],
)
def test_bodies_that_are_no_json_object(client: TestClient, content: bytes, words: str) -> None:
    answer = client.post("/classify", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (413, 422)
    assert set(answer.json()) == {"error", "error_type"}
    assert words in answer.json()["error"]


def test_a_body_without_its_content_type_is_told_so(client: TestClient) -> None:
    for kind in ({}, {"content-type": "application/x-www-form-urlencoded"}):
        answer = client.post("/classify", content=b'{"text": "a"}', headers=kind)
        assert answer.status_code == 422
        assert "Content-Type: application/json" in answer.json()["error"]


def test_a_body_that_is_too_long_is_cut_off(client: TestClient) -> None:
    long = json.dumps({"text": "a" * 200_000}).encode()
    told = client.post("/classify", content=long, headers={"content-type": "application/json"})
    assert told.status_code == 413

    def pieces() -> Any:
        for start in range(0, len(long), 1000):
            yield long[start : start + 1000]

    unsaid = client.post("/classify", content=pieces(), headers={"content-type": "application/json"})
    assert unsaid.status_code == 413
    assert "longer than 100,000 bytes" in unsaid.json()["error"]


def test_headers_hosts_and_methods(client: TestClient) -> None:
    assert client.get("/info", headers={"x-long": "a" * 20_000}).status_code == 431
    assert client.get("/info", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/classify").status_code == 405
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_answer_has_a_name_of_its_own_that_the_log_knows(runs: list[Any]) -> None:
    log: list[str] = []
    app, _ = served(runs[:1], log=log)
    with TestClient(app) as client:
        names = [client.get("/info").headers["x-request-id"] for _ in range(3)]
    assert len(set(names)) == 3
    assert [json.loads(line)["request_id"] for line in log] == names


def test_a_token_is_asked_for(runs: list[Any]) -> None:
    log: list[str] = []
    app, _ = served(runs[:1], token=TOKEN, log=log)
    with TestClient(app) as client:
        for shown in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": TOKEN},
            {"authorization": "Basic " + TOKEN},
        ):
            answer = client.post("/classify", json={"text": "a secret text"}, headers=shown)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        assert (
            client.post(
                "/classify", json={"text": "a secret text"}, headers={"authorization": f"Bearer {TOKEN}"}
            ).status_code
            == 200
        )
    lines = [json.loads(line) for line in log]
    assert {line["status"] for line in lines} == {200, 401}
    assert lines[4]["n_texts"] == 1
    assert "secret" not in "".join(log)
    assert TOKEN not in "".join(log)


def test_counts_for_prometheus_hold_no_text(runs: list[Any]) -> None:
    app, _ = served(runs[:1])
    with TestClient(app) as client:
        client.post("/classify", json={"texts": ["hush hush", "quiet"]})
        client.post("/models/hush-hush", json={"inputs": "a"})
        found = client.get("/metrics").text
    assert 'lasttoken_requests_total{path="/classify",status="200"} 1.0' in found
    assert "lasttoken_texts_total 2.0" in found
    assert "hush" not in found


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "text",
                    "texts",
                    "input",
                    "inputs",
                    "model",
                    "top_k",
                    "parameters",
                    "outputs",
                    "shape",
                    "data",
                    "name",
                    "datatype",
                    "x",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
PATHS = ["/", "/classify", "/predict", "/explain", "/models/spam", "/v2/models/spam/infer", "/v2/models/x/infer"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(PATHS), body=ANY_JSON)
def test_no_body_makes_an_error_of_ours(client: TestClient, path: str, body: Any) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code < 500, (path, body, answer.text)
