"""What a reader gets: the file, and a stack that closes with the table."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lasttoken.data.tables.format import ReadRequest
from lasttoken.data.tables.options import ReadOptions


def test_a_generator_is_closed_with_the_table(tmp_path: Path) -> None:
    events = []

    def lines() -> Generator[str, None, None]:
        try:
            yield "first"
            yield "second"
        finally:
            events.append("closed")

    with ExitStack() as stack:
        assert next(ReadRequest(tmp_path / "a.csv", ReadOptions(), stack).closing(lines())) == "first"
        assert events == []
    assert events == ["closed"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_cannot_be_read_again(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n")
    os.mkfifo(tmp_path / "pipe.csv")
    with ExitStack() as stack:
        requests = [ReadRequest(tmp_path / name, ReadOptions(), stack) for name in ("a.csv", "pipe.csv")]
    assert [request.can_reread for request in requests] == [True, False]
    assert requests[1].source == "pipe.csv"
