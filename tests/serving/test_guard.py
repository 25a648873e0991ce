"""The checks in front of every route: the token, pages of other origins, limits, the log, HEAD, internal errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from miniature import run_cli
from serving.conftest import TOKEN, served
from starlette.routing import Route

from lasttoken.serving.app import make_app
from lasttoken.serving.registry import open_routes

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
WITH_TOKEN = {"authorization": f"Bearer {TOKEN}"}
OPEN_PATHS = {"/", "/app.js", "/style.css", "/docs", "/docs.js", "/health", "/v2/health/live", "/v2/health/ready"}
PAGE = "https://example.org"


@pytest.fixture(scope="module")
def closed(runs: list[Path]) -> Iterator[tuple[TestClient, list[str]]]:
    """A client of a server with a token, and every path of the server's routes."""
    app, server = served(runs[:1], token=TOKEN)
    paths = [route.path for route in make_app(server).routes if isinstance(route, Route)]
    with TestClient(app) as client:
        yield client, [path.replace("{name}", "spam") for path in paths]


def test_the_page_s_files_and_health_are_declared_open() -> None:
    assert {path for _, path in open_routes()} == OPEN_PATHS
    assert {method for method, _ in open_routes()} == {"GET", "HEAD"}


def test_without_the_token_only_open_routes_are_answered(closed: tuple[TestClient, list[str]]) -> None:
    client, paths = closed
    assert {"/", "/classify", "/explain", "/info", "/metrics", "/openapi.json", "/v1/models"} <= set(paths)
    body = {"inputs": "a secret", "text": "a secret"}
    for path in [*paths, "/nowhere", "/health/", "/health//", "/docs/x", "/HEALTH"]:
        for method in METHODS:
            answer = client.request(method, path, json=body, follow_redirects=False)
            is_open = path in OPEN_PATHS and method in ("GET", "HEAD")
            assert answer.status_code == (200 if is_open else 401), (method, path)


def test_with_the_token_everything_is_answered(closed: tuple[TestClient, list[str]]) -> None:
    client, _ = closed
    assert client.post("/", json={"inputs": "a"}, headers=WITH_TOKEN).status_code == 200
    assert client.get("/info", headers=WITH_TOKEN).status_code == 200
    assert client.get("/nowhere", headers=WITH_TOKEN).status_code == 404
    assert client.put("/health", headers=WITH_TOKEN).status_code == 405


@pytest.mark.parametrize("authorization", ["Bearer wrong", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ", ""])
def test_another_token_is_rejected(closed: tuple[TestClient, list[str]], authorization: str) -> None:
    client, _ = closed
    for path in ("/", "/classify", "/info"):
        answer = client.post(path, json={}, headers={"authorization": authorization})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


# Pages of other origins ----------------------------------------------------------------------------------------------


def test_pages_of_an_allowed_origin_may_call(runs: list[Path]) -> None:
    app, _ = served(runs[:1], token=TOKEN, origins=[PAGE])
    preflight = {
        "origin": PAGE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    with TestClient(app) as client:
        allowed = client.options("/classify", headers=preflight)  # a preflight request has no token
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == PAGE
        assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
        answer = client.post("/classify", json={"text": "a"}, headers={"origin": PAGE, **WITH_TOKEN})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        denied = client.post("/classify", json={"text": "a"}, headers={"origin": PAGE})
        assert denied.status_code == 401
        assert denied.headers["access-control-allow-origin"] == PAGE  # so that the page can say why
        for other in ("https://evil.example", "null", f"{PAGE}.evil.example"):
            rejected = client.options("/classify", headers={**preflight, "origin": other})
            assert rejected.status_code == 400
            assert rejected.json().keys() == {"error", "error_type"}
            assert "access-control-allow-origin" not in rejected.headers
            answer = client.post("/classify", json={"text": "a"}, headers={"origin": other, **WITH_TOKEN})
            assert "access-control-allow-origin" not in answer.headers
        assert client.options("/classify", headers=preflight | {"host": "evil.example"}).status_code == 421


def test_any_origin_may_be_allowed_and_none_is_by_default(runs: list[Path], client: TestClient) -> None:
    app, _ = served(runs[:1], origins=["*"])
    with TestClient(app) as open_to_all:
        answer = open_to_all.post("/classify", json={"text": "a"}, headers={"origin": PAGE})
        assert answer.headers["access-control-allow-origin"] == "*"
    answer = client.post("/classify", json={"text": "a"}, headers={"origin": PAGE})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("url", ["example.org", "https://example.org/page", "ftp://example.org", "https://", "null"])
def test_an_invalid_origin_is_rejected(runs: list[Path], url: str) -> None:
    answer = run_cli("serve", runs[0], "--allow-origin", url, "--port", "70000")
    assert answer.code == 2
    answer = run_cli("serve", runs[0], "--allow-origin", url)
    assert answer.code == 2
    assert url in answer.err
    assert "--allow-origin" in answer.err


# Limits, and the log ------------------------------------------------------------------------------------------------


def test_long_headers_and_other_hosts_are_rejected(client: TestClient) -> None:
    assert client.get("/info", headers={"x-long": "a" * 20_000}).status_code == 431
    assert client.get("/info", headers={"host": "evil.example"}).status_code == 421


def test_every_answer_has_the_security_headers(client: TestClient) -> None:
    for path in ("/", "/info", "/nowhere"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_every_answer_has_an_id_that_the_log_repeats(runs: list[Path]) -> None:
    log: list[str] = []
    app, _ = served(runs[:1], log=log)
    with TestClient(app) as client:
        ids = [client.get("/info").headers["x-request-id"] for _ in range(3)]
    assert len(set(ids)) == 3
    assert [json.loads(line)["request_id"] for line in log] == ids


def test_the_log_holds_counts_but_neither_texts_nor_the_token(runs: list[Path]) -> None:
    log: list[str] = []
    app, _ = served(runs[:1], token=TOKEN, log=log)
    body = {"text": "a secret text"}
    with TestClient(app) as client:
        assert client.post("/classify", json=body).status_code == 401
        assert client.post("/classify", json=body, headers={"authorization": f"Bearer {TOKEN}x"}).status_code == 401
        assert client.post("/classify", json=body, headers=WITH_TOKEN).status_code == 200
    lines = [json.loads(line) for line in log]
    assert [line["status"] for line in lines] == [401, 401, 200]
    assert lines[2]["n_texts"] == 1
    assert "secret" not in "".join(log)
    assert TOKEN not in "".join(log)


# HEAD, headers, errors ------------------------------------------------------------------------------------------------


def test_head_is_get_without_the_body(client: TestClient) -> None:
    for path in ("/", "/health", "/info", "/v1/models", "/v2/health/ready", "/metrics", "/nowhere", "/classify"):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.headers["content-type"]) == (get.status_code, get.headers["content-type"])
        assert head.content == b""
    assert client.head("/health").headers["content-length"] == client.get("/health").headers["content-length"]


def test_spaces_around_the_content_length_are_ignored(client: TestClient) -> None:
    content = b'{"text": "a"}'
    headers = {"content-type": "application/json", "content-length": f"{len(content)} "}
    assert client.post("/classify", content=content, headers=headers).status_code == 200
    headers["content-length"] = "1" * 30
    assert client.post("/classify", content=content, headers=headers).status_code == 413


def test_a_long_url_is_rejected(client: TestClient) -> None:
    for path in ("/" + "a" * 9_000, "/health?" + "a" * 9_000):
        answer = client.get(path)
        assert answer.status_code == 414
        assert answer.json()["error_type"] == "too_large"


def test_an_internal_error_is_one_answer_in_json(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    app, server = served(runs[:1], log=log)

    async def fail(*_: Any) -> None:
        raise RuntimeError("a secret text")

    monkeypatch.setattr(server.engine, "classify", fail)
    messages: list[Any] = []
    content = b'{"text": "a secret text"}'
    with TestClient(app, raise_server_exceptions=False) as client:
        real = app.app

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            async def kept(message: Any) -> None:
                messages.append(message["type"])
                await send(message)

            await real(scope, receive, kept)

        app.app = watched
        answer = client.post("/classify", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 500
    assert answer.json().keys() == {"error", "error_type"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert messages.count("http.response.start") == 1
    assert "RuntimeError" in "".join(log)
    assert "secret" not in "".join(log)


def test_half_a_surrogate_pair_is_rejected_in_every_field(client: TestClient) -> None:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    for path, body in (
        ("/v2/models/spam/infer", {"id": "\ud800", "inputs": [tensor]}),
        ("/v2/models/spam/infer", {"inputs": [tensor | {"name": "\udfff"}]}),
        ("/classify", {"text": "a", "model": "\ud800"}),
        ("/classify", {"input": "a", "request_id": "\ud800"}),
        ("/explain", {"text": "a", "label": "\ud800"}),
        ("/classify", {"\ud800": "a"}),
    ):
        answer = client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
        assert answer.status_code == 422, answer.text
        assert answer.json().keys() == {"error", "error_type"}
