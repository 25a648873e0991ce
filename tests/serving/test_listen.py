"""What is done just before the server listens."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import uvicorn

from lasttoken.serving.listen import listen


def test_what_is_there_when_it_begins_is_left_to_no_garbage_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[int] = []

    def run(*_: Any, **__: Any) -> None:
        frozen.append(gc.get_freeze_count())

    monkeypatch.setattr(uvicorn.Server, "run", run)
    before = gc.get_freeze_count()
    try:
        listen(None, "127.0.0.1", 0, 1, lambda _: None)
    finally:
        gc.unfreeze()
    assert frozen[0] > before + 1000
