"""Bodies: bounded before they are parsed, checked up to the first error, off the event loop, and in time."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json
from serving.conftest import JSON, served
from starlette.requests import Request

from lasttoken.serving import intake
from lasttoken.serving.intake import Intake, holds_at_most, parse
from lasttoken.serving.interfaces.classify import ClassifyBody
from lasttoken.serving.interfaces.open_inference import InferBody
from lasttoken.serving.interfaces.tei import PredictBody
from lasttoken.serving.limits import Limits
from lasttoken.serving.registry import bodies
from lasttoken.serving.rejections import RejectedError


def n_values(value: Any) -> int:
    """The number of values in a JSON document, counted recursively."""
    if isinstance(value, dict):
        return 1 + sum(map(n_values, value.values()))
    return 1 + sum(map(n_values, value)) if isinstance(value, list) else 1


def floods() -> dict[str, bytes]:
    """Bodies of about 4 MB that are expensive to check."""
    return {
        "numbers": b'{"inputs":[' + b"1," * 1_990_000 + b"1]}",
        "empty strings": b'{"inputs":[' + b'"",' * 1_330_000 + b'""]}',
        "lists": b'{"inputs":[' + b"[]," * 1_330_000 + b"[]]}",
        "objects": b'{"inputs":[' + b"{}," * 1_330_000 + b"{}]}",
        "names": b"{" + b",".join(b'"%d":1' % n for n in range(400_000)) + b"}",
        "deep": b'{"inputs":' + b"[" * 3_990_000,
        "deep objects": b'{"a":' * 790_000,
        "quotes": b'{"inputs":' + b'""' * 1_990_000 + b"}",
        "digits": b'{"inputs":' + b"9" * 3_990_000 + b"}",
    }


@pytest.mark.parametrize("path", ["/", "/predict", "/classify", "/explain", "/models/spam", "/v2/models/spam/infer"])
@pytest.mark.parametrize("name", floods())
def test_an_expensive_body_is_rejected_at_once(runs: Any, default_limits: TestClient, path: str, name: str) -> None:
    started = time.process_time()
    answer = default_limits.post(path, content=floods()[name], headers=JSON)
    assert answer.status_code in (413, 422)
    assert answer.json().keys() == {"error", "error_type"}
    assert time.process_time() - started < 5  # 4 MB of numbers took two minutes


@pytest.fixture(scope="module")
def default_limits(runs: Any) -> Any:
    """A client of a server with the default limits."""
    app, _ = served(runs[:1])
    with TestClient(app) as made:
        yield made


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.text(alphabet='"\\,[]{}:a', max_size=9),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=40,
)


@given(value=ANY_JSON)
def test_values_are_counted_as_a_parser_counts_them(value: Any) -> None:
    content, n = json.dumps(value).encode(), n_values(value)
    assert holds_at_most(content, 2 * n)  # a bracket for each container, a comma before each further value in it
    if n > 2:
        assert not holds_at_most(content, n - 2)


@pytest.mark.parametrize("window", [1, 2, 3, 7])
def test_strings_and_escapes_across_windows(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr(intake, "WINDOW_BYTES", window)
    for text in ('a, [b, {"c"}', "\\", '\\"', '\\\\",["', '"', '\\\\\\",', ",,,,"):
        content = json.dumps({"texts": [text, text]}).encode()
        assert from_json(content) == {"texts": [text, text]}
        assert holds_at_most(content, 3)
        assert not holds_at_most(content, 2)


def test_the_check_stops_at_the_first_error() -> None:
    with pytest.raises(RejectedError) as caught:
        parse(json.dumps({"inputs": ["a", 7] + [{}] * 1000}).encode(), PredictBody, Limits())
    assert caught.value.status == 422
    assert "inputs" in caught.value.sentence
    assert "1" in caught.value.sentence
    assert len(caught.value.sentence) < 200


def test_a_byte_order_mark_is_ignored() -> None:
    assert parse(b'\xef\xbb\xbf{"text": "a"}', ClassifyBody, Limits()).text == "a"


def test_more_texts_are_allowed_where_the_limit_is_higher() -> None:
    content = json.dumps({"texts": ["a"] * 9_000}).encode()
    assert len(parse(content, ClassifyBody, Limits(texts=9_000)).texts or []) == 9_000
    tensor = {"name": "text", "shape": [1_000, 1], "datatype": "BYTES", "data": [["a"]] * 1_000}
    assert parse(json.dumps({"inputs": [tensor]}).encode(), InferBody, Limits())
    assert parse(json.dumps({"inputs": [["a", "b"]] * 1_000}).encode(), PredictBody, Limits())
    with pytest.raises(RejectedError) as caught:
        parse(content, ClassifyBody, Limits())
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("content", "named"),
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
def test_a_body_that_is_not_a_json_object_is_rejected(client: TestClient, content: bytes, named: str) -> None:
    answer = client.post("/classify", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (413, 422)
    assert set(answer.json()) == {"error", "error_type"}
    assert named in answer.json()["error"]


def test_a_body_without_the_content_type_of_json_is_rejected(client: TestClient) -> None:
    for headers in ({}, {"content-type": "application/x-www-form-urlencoded"}):
        answer = client.post("/classify", content=b'{"text": "a"}', headers=headers)
        assert answer.status_code == 422
        assert "Content-Type: application/json" in answer.json()["error"]


def test_a_body_that_is_too_long_is_rejected_with_and_without_content_length(client: TestClient) -> None:
    long = json.dumps({"text": "a" * 200_000}).encode()
    with_length = client.post("/classify", content=long, headers={"content-type": "application/json"})
    assert with_length.status_code == 413

    def pieces() -> Any:
        for start in range(0, len(long), 1000):
            yield long[start : start + 1000]

    without_length = client.post("/classify", content=pieces(), headers={"content-type": "application/json"})
    assert without_length.status_code == 413
    assert "100,000 bytes" in without_length.json()["error"]


# Threads and time --------------------------------------------------------------------------------------------------


def request_of(*parts: bytes, stalls_s: float = 0.0) -> Request:
    """A request whose body arrives in parts; the last part comes after `stalls_s` seconds."""
    remaining = list(parts)

    async def receive() -> Any:
        if len(remaining) == 1:
            await asyncio.sleep(stalls_s)
        return {"type": "http.request", "body": remaining.pop(0), "more_body": bool(remaining)}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")]}
    return Request(scope, receive)


def long_body() -> bytes:
    return json.dumps({"text": "a" * 2 * intake.SHORT_BYTES}).encode()


def test_long_bodies_are_parsed_away_from_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    real = intake.parse

    def watched(*args: Any) -> Any:
        threads.append(threading.current_thread().name)
        return real(*args)

    monkeypatch.setattr(intake, "parse", watched)

    async def scenario() -> None:
        with ThreadPoolExecutor(1, "pool") as pool:
            reader = Intake(Limits(), pool)
            for content in (b'{"text": "a"}', long_body()):
                async with reader.body(request_of(content), ClassifyBody) as body:
                    assert body.text

    asyncio.run(scenario())
    assert [name.split("_")[0] for name in threads] == ["MainThread", "pool"]


def test_a_body_that_stalls_is_rejected_with_408() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as pool:
            reader = Intake(Limits(body_s=0.05), pool)
            with pytest.raises(RejectedError) as caught:
                async with reader.body(request_of(b'{"text": ', b'"a"}', stalls_s=30), ClassifyBody):
                    pass
            assert caught.value.status == 408

    asyncio.run(scenario())


def test_all_long_bodies_together_are_bounded_until_they_are_answered() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as pool:
            limits = Limits(body_bytes=20_000_000)
            reader = Intake(limits, pool)
            content = json.dumps({"text": "a" * 19_000_000}).encode()
            async with reader.body(request_of(content), ClassifyBody):
                async with reader.body(request_of(b'{"text": "short"}'), ClassifyBody) as short:
                    assert short.text == "short"
                held = [reader.body(request_of(content), ClassifyBody) for _ in range(4)]
                for other in held[:3]:
                    await other.__aenter__()
                with pytest.raises(RejectedError) as caught:
                    await held[3].__aenter__()
                assert caught.value.status == 429
                assert int(caught.value.headers["retry-after"]) >= 1
                for other in held[:3]:
                    await other.__aexit__(None, None, None)
            for _ in range(6):
                async with reader.body(request_of(content), ClassifyBody):
                    pass

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", bodies())
def test_every_body_names_a_field_that_it_does_not_know(kind: Any) -> None:
    example = kind.model_config["json_schema_extra"]["examples"][0]
    assert parse(json.dumps(example).encode(), kind, Limits())
    with pytest.raises(RejectedError) as caught:
        parse(json.dumps(example | {"temperature": 2}).encode(), kind, Limits())
    assert caught.value.status == 422
    assert "temperature" in caught.value.sentence
