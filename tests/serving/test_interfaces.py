"""Other servers' requests: what would change the answer is honoured or refused by its name, and what is listed."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from importlib.resources import files
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from fastapi.testclient import TestClient
from miniature import messages
from serving.conftest import served

from lasttoken.classifier.predict import PROBABILITY_DECIMALS, Predictor

TEXTS, _ = messages(40)
LONG = "word " * 200  # of a classifier that reads 64 tokens at most
TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
USUAL: dict[str, dict[str, Any]] = {"/classify": {"input": "a"}, "/v2/models/spam/infer": {"inputs": [TENSOR]}}


@pytest.mark.parametrize(
    ("path", "fields", "named"),
    [
        ("/predict", {"raw_scores": True}, "raw_scores"),
        ("/predict", {"truncation_direction": "left"}, "truncation_direction"),
        ("/predict", {"truncate": "no"}, "truncate"),
        ("/predict", {"prompt_name": "query"}, "prompt_name"),
        ("/predict", {"inputs": ["one", "two"]}, "inputs"),
        ("/predict", {"inputs": []}, "inputs"),
        ("/", {"parameters": {"max_length": 8}}, "max_length"),
        ("/", {"parameters": {"truncation": False}}, "truncation"),
        ("/", {"parameters": {"function_to_apply": "none"}}, "function_to_apply"),
        ("/", {"parameters": {"return_all_scores": False}}, "return_all_scores"),
        ("/", {"candidate_labels": ["a"]}, "candidate_labels"),
        ("/classify", {"activation": False}, "activation"),
        ("/classify", {"use_activation": False}, "use_activation"),
        ("/classify", {"softmax": False}, "softmax"),
        ("/classify", {"truncate_prompt_tokens": 2}, "truncate_prompt_tokens"),
        ("/classify", {"truncation_side": "left"}, "truncation_side"),
        ("/classify", {"mm_processor_kwargs": {}}, "mm_processor_kwargs"),
        ("/classify", {"top_k": 1}, "top_k"),
        ("/v2/models/spam/infer", {"parameters": {"binary_data_output": True}}, "binary_data_output"),
        ("/v2/models/spam/infer", {"inputs": [TENSOR | {"parameters": {"content_type": "np"}}]}, "content_type"),
        (
            "/v2/models/spam/infer",
            {"outputs": [{"name": "score", "parameters": {"classification": 1}}]},
            "classification",
        ),
    ],
)
def test_a_field_that_would_change_the_answer_is_refused_by_its_name(
    client: TestClient, path: str, fields: dict[str, Any], named: str
) -> None:
    answer = client.post(path, json={**USUAL.get(path, {"inputs": "a"}), **fields})
    assert answer.status_code == 422, answer.text
    assert named in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/predict", {"truncate": True, "raw_scores": False, "truncation_direction": "right"}),
        ("/predict", {"inputs": ["a"], "truncate": None}),
        ("/", {"options": {"wait_for_model": True}, "parameters": {"truncation": True}}),
        ("/classify", {"user": "x", "priority": 0, "add_special_tokens": False, "activation": True}),
        ("/classify", {"truncate_prompt_tokens": -1, "use_activation": None, "softmax": True}),
        ("/v2/models/spam/infer", {"parameters": {"content_type": "str"}, "outputs": [{"name": "score"}]}),
    ],
)
def test_a_field_that_changes_nothing_is_accepted(client: TestClient, path: str, fields: dict[str, Any]) -> None:
    assert client.post(path, json={**USUAL.get(path, {"inputs": "a"}), **fields}).status_code == 200


def test_a_text_that_must_not_be_cut_is_refused(client: TestClient) -> None:
    assert client.post("/predict", json={"inputs": LONG}).status_code == 200
    assert client.post("/predict", json={"inputs": "short", "truncate": False}).status_code == 200
    for inputs in (LONG, [["short"], [LONG]]):
        answer = client.post("/predict", json={"inputs": inputs, "truncate": False})
        assert answer.status_code == 413
        assert "truncate" in answer.json()["error"]


def test_a_pair_is_one_text_and_two_lists_are_two(client: TestClient, predictor: Predictor) -> None:
    found = client.post("/predict", json={"inputs": [[TEXTS[0], TEXTS[1]], [TEXTS[2]]]}).json()
    pair, single = predictor.predict([f"{TEXTS[0]}\n\n{TEXTS[1]}", TEXTS[2]])
    assert [rows[0]["score"] for rows in found] == pytest.approx([pair.score, single.score], abs=1e-5)


def test_a_request_id_comes_back(client: TestClient) -> None:
    assert client.post("/classify", json={"input": "a", "request_id": "mine"}).json()["id"].endswith("mine")


def test_models_are_listed_as_openai_s_clients_expect(both: TestClient) -> None:
    found = both.get("/v1/models").json()
    assert found["object"] == "list"
    assert [card["id"] for card in found["data"]] == ["spam", "other"]
    for card in found["data"]:
        assert {"id", "object", "created", "owned_by", "root", "parent", "max_model_len"} <= card.keys()
        assert card["object"] == "model"
        assert both.get(f"/v1/models/{card['id']}").json() == card
    assert both.get("/v1/models/nobody").status_code == 404


def test_every_body_can_name_one_of_several_models(both: TestClient) -> None:
    for path, body in (("/", {"inputs": "a"}), ("/predict", {"inputs": "a"}), ("/classify", {"input": "a"})):
        assert "other" in both.post(path, json=body).json()["error"]
        found = both.post(path, json={**body, "model": "other"})
        assert found.status_code == 200, found.text
        assert both.post(path, json={**body, "model": "nobody"}).status_code == 404
    assert both.post("/models/other", json={"inputs": "a", "model": "other"}).status_code == 200
    assert "model" in both.post("/models/other", json={"inputs": "a", "model": "spam"}).json()["error"]


# Digits --------------------------------------------------------------------------------------------------------------


def test_numbers_have_the_decimals_of_files(client: TestClient) -> None:
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


def test_a_text_alone_and_among_others_is_answered_in_the_same_bytes(client: TestClient) -> None:
    together = client.post("/classify", json={"texts": TEXTS}).json()["predictions"]
    alone = [client.post("/classify", json={"text": text}).json() for text in TEXTS]
    for row in alone:
        del row["model"]
    n_other = sum(json.dumps(one) != json.dumps(two) for one, two in zip(alone, together, strict=True))
    assert n_other <= 10  # of 40, where a probability lies between two roundings; with eight decimals most differ


def test_many_labels_are_put_in_order_once(
    client: TestClient, runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long answer is written in the pool, not on the event loop."""
    threads: list[str] = []
    app, server = served(runs[:1])
    real = server.json

    async def watched(build: Any, n_values: int) -> Any:
        def counted() -> Any:
            threads.append(threading.current_thread().name.split("_")[0])
            return build()

        return await real(counted, n_values)

    monkeypatch.setattr(server, "json", watched)
    monkeypatch.setattr("lasttoken.serving.server.FEW_VALUES", 20)
    with TestClient(app) as other:
        assert other.post("/", json={"inputs": TEXTS}).json() == client.post("/", json={"inputs": TEXTS}).json()
        assert other.post("/", json={"inputs": "a"}).status_code == 200
    assert threads[0] == "json"
    assert threads[1] != "json"


# The page's CSV ------------------------------------------------------------------------------------------------------

CELLS = {
    "=1+1": "'=1+1",
    "+1": "'+1",
    "-1": "'-1",
    "@SUM(A1)": "'@SUM(A1)",
    "\tx": "'\tx",
    "\r=x": '"\'\r=x"',
    '=HYPERLINK("http://evil.example","a")': '"\'=HYPERLINK(""http://evil.example"",""a"")"',
    "a=1": "a=1",
    " =1": " =1",
    "": "",
    "a,b": '"a,b"',
    'say "x"': '"say ""x"""',
}


STUBS = """
    const any = new Proxy(function () {}, { get: (_, name) => (name === Symbol.toPrimitive ? () => "" : any),
                                            apply: () => any, set: () => true });
    globalThis.document = any; globalThis.sessionStorage = any; globalThis.fetch = () => Promise.reject();
"""


def of_the_page(expression: str) -> Any:
    """The value of an expression in the page's script."""
    script = (files("lasttoken.serving") / "page" / "app.js").read_text("utf-8")
    ask = f"(async () => {{ process.stdout.write(JSON.stringify(await {expression})); process.exit(0); }})();"
    done = subprocess.run(["node", "-"], input=STUBS + script + ask, capture_output=True, text=True, timeout=60)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(which("node") is None, reason="needs node, to run the page's script")
def test_cells_that_a_spreadsheet_would_run_are_text() -> None:
    assert of_the_page(f"{json.dumps(list(CELLS))}.map(field)") == list(CELLS.values())


@pytest.mark.skipif(which("node") is None, reason="needs node, to run the page's script")
def test_the_page_reads_the_columns_of_the_training() -> None:
    header = ["title", "Abstract", "text"]
    asked = [["abstract"], ["title", "abstract"], ["other"], []]
    found = of_the_page(f"{json.dumps(asked)}.map((one) => textColumns({json.dumps(header)}, one))")
    assert found == [[1], [0, 1], [2], [2]]
    assert of_the_page('textOf(["a", " ", "b"], [0, 1, 2])') == "a\n\nb"


@pytest.mark.skipif(which("node") is None, reason="needs node, to run the page's script")
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_page_reads_tables_as_spreadsheets_write_them(codec: str, mark: str) -> None:
    content = f'text{mark}label\r\n"caf\u00e9, 1{mark}2"{mark}x\r\n'.encode(codec)
    assert of_the_page(f"read(new Blob([new Uint8Array({list(content)})])).then(parse)") == [
        ["text", "label"],
        [f"caf\u00e9, 1{mark}2", "x"],
    ]


@pytest.mark.skipif(which("node") is None, reason="needs node, to run the page's script")
def test_the_page_refuses_other_encodings() -> None:
    content = list("caf\u00e9".encode("cp1252"))
    assert "UTF-8" in of_the_page(f"read(new Blob([new Uint8Array({content})])).catch((error) => error.message)")
