"""Requests that nobody should send are never answered with an error of the server's (benchmarks/fuzz_serve.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

fuzz = pytest.importorskip("fuzz_serve", reason="needs schemathesis, of the extra [test]", exc_type=ImportError)
MODELS = ["spam"]


@pytest.fixture
def denormals() -> Iterator[None]:
    """Numbers that hypothesis wants to draw, and that this thread flushes to 0 once a model was loaded in it."""
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(True)


def status_of(client: TestClient, sent: Any) -> int:
    answer = client.request(sent.method, sent.path, headers=sent.headers, content=sent.content)
    assert not fuzz.is_wrong(answer.status_code), (sent, answer.text)
    assert "Traceback" not in answer.text
    return answer.status_code


def test_changed_bodies(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    found = Counter(status_of(client, sent) for sent in fuzz.changed_bodies(schema, MODELS, 400, seed=1))
    assert {200, 413, 422} <= set(found)  # some are still well formed, others are not


@pytest.mark.usefixtures("denormals")
def test_requests_made_of_the_schema(client: TestClient) -> None:
    found: Counter[int] = Counter()
    fuzz.from_schema(
        client.get("/openapi.json").json(), MODELS, 10, lambda sent: found.update([status_of(client, sent)])
    )
    assert {200, 404, 422} <= set(found)


def test_what_counts_as_wrong() -> None:
    assert [status for status in (0, 200, 422, 429, 500, 502, 503, 504) if fuzz.is_wrong(status)] == [0, 500, 502, 503]
