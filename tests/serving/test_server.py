"""What all routes share: models by name, limits on texts, and long answers written off the event loop."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving.conftest import TEXTS, served

from lasttoken.serving.rejections import RejectedError


def test_a_model_is_found_by_its_name_or_because_it_is_the_only_one(runs: list[Path]) -> None:
    _, one = served(runs[:1])
    assert one.model(None).name == one.model("spam").name == "spam"
    _, two = served(runs)
    assert two.model("other").name == "other"
    for server, name, status in ((one, "nobody", 404), (two, None, 422), (two, "*", 404)):
        with pytest.raises(RejectedError) as caught:
            server.model(name)
        assert caught.value.status == status
        assert "spam" in caught.value.sentence


@pytest.mark.parametrize(
    ("texts", "status", "named"),
    [([], 422, "texts"), (["a"] * 4, 413, "4 texts"), (["a", "b" * 11], 422, "text 1 has 11")],
)
def test_too_many_and_too_long_texts_are_rejected(runs: list[Path], texts: list[str], status: int, named: str) -> None:
    _, server = served(runs[:1], texts=3, characters=10)
    with pytest.raises(RejectedError) as caught:
        server.check(texts)
    assert caught.value.status == status
    assert named in caught.value.sentence
    server.check(["a" * 10] * 3)


def test_long_answers_are_written_in_the_pool(
    client: TestClient, runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    app, server = served(runs[:1])
    real = server.json

    async def watched(content: Any, n_values: int) -> Any:
        def recorded() -> Any:
            threads.append(threading.current_thread().name.split("_")[0])
            return content()

        return await real(recorded, n_values)

    monkeypatch.setattr(server, "json", watched)
    monkeypatch.setattr("lasttoken.serving.server.FEW_VALUES", 20)
    with TestClient(app) as other:
        assert other.post("/", json={"inputs": TEXTS}).json() == client.post("/", json={"inputs": TEXTS}).json()
        assert other.post("/", json={"inputs": "a"}).status_code == 200
    assert threads[0] == "json"
    assert threads[1] != "json"
