"""What a failing command leaves: one sentence on stderr, and the files that were there before."""

from __future__ import annotations

from pathlib import Path

from miniature import Answer


def snapshot(*folders: Path) -> dict[Path, bytes | None]:
    """Every file and folder, with the files' content."""
    entries = (path for folder in folders for path in folder.rglob("*"))
    return {path: path.read_bytes() if path.is_file() else None for path in entries}


def sentence_of(answer: Answer, code: int) -> str:
    """The one line on stderr, after checking that it is one, and that stdout is empty."""
    assert answer.code == code, answer.err
    assert answer.out == ""
    lines = answer.err.splitlines()
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in lines[0]
    return lines[0]
