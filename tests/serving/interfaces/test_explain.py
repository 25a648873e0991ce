"""POST /explain: words with their contributions, and texts that are not explained."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient


def test_words_that_moved_a_decision(client: TestClient) -> None:
    answer = client.post("/explain", json={"text": "Win prize number 7 now", "label": "spam"}).json()
    assert "".join(word for word, _ in answer["words"]) == "Win prize number 7 now"
    assert answer["label"] == "spam"
    assert any(value != 0 for _, value in answer["words"])


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"text": "a", "label": "eggs"}, 422, "label"),
        ({"text": "a" * 2001}, 422, "2,001"),
        ({"text": "a", "model": "nobody"}, 404, "spam"),
        ({}, 422, "text"),
    ],
)
def test_an_invalid_body_is_rejected(client: TestClient, body: Any, status: int, named: str) -> None:
    answer = client.post("/explain", json=body)
    assert answer.status_code == status
    assert named in answer.json()["error"]
