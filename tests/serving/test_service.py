"""A whole server that is started from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lasttoken.core.progress import Reporter
from lasttoken.serving.limits import Limits
from lasttoken.serving.options import ServerOptions
from lasttoken.serving.service import make_service, serve

TOKEN = "a-token-of-more-than-sixteen-signs"


class Listening(Reporter):
    """Keeps the sentences."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)


def test_the_application_answers_with_the_token_and_within_the_limits(runs: list[Path]) -> None:
    options = ServerOptions(token=TOKEN, allow_hosts=("testserver",), limits=Limits(texts=2), device="cpu")
    app, groups = make_service(runs, options)
    assert [served.name for group in groups for served in group.members] == ["spam", "other"]
    headers = {"authorization": f"Bearer {TOKEN}"}
    with TestClient(app) as client:
        body = {"model": "spam", "texts": ["hi"]}
        assert client.post("/classify", json=body).status_code == 401
        assert client.post("/classify", json=body, headers=headers).status_code == 200
        too_many = {"model": "spam", "texts": ["hi"] * 3}
        assert client.post("/classify", json=too_many, headers=headers).status_code == 413


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (ServerOptions(host="0.0.0.0"), ["0.0.0.0", "--token-file"]),
        (ServerOptions(allow_origins=("*",)), ["every origin", "--token-file"]),
        (ServerOptions(host="0.0.0.0", allow_origins=("*",), token=TOKEN), []),
    ],
)
def test_an_open_server_is_reported(
    options: ServerOptions, words: list[str], runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    listen: Callable[..., None] = lambda *arguments: calls.append(arguments)  # noqa: E731
    monkeypatch.setattr("lasttoken.serving.listen.listen", listen)
    reporter = Listening()
    serve(runs, options, reporter)
    ((_, host, port, *_, sentences),) = calls
    assert (host, port) == (options.host, options.port)
    *notices, last = sentences
    assert reporter.sentences == [], "nothing is reported before the server listens"
    assert "spam, other (one trunk)" in last
    assert all(word in " ".join(notices) for word in words)
    assert bool(notices) == bool(words)
