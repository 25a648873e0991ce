"""`lasttoken import`: invalid flags; the import itself is tested in tests/export/test_book.py."""

from __future__ import annotations

from pathlib import Path

from miniature import run_cli


def test_the_maximum_length_must_be_positive(tmp_path: Path) -> None:
    answer = run_cli("import", tmp_path / "spam.pth", "--out", tmp_path / "run", "--max-length", 0)
    assert answer.code == 2
    assert "--max-length is 0" in answer.err
    assert not (tmp_path / "run").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    answer = run_cli("import", tmp_path / "spam.pth", "--out", tmp_path / "run", "--offline")
    assert answer.code == 2
    assert "spam.pth" in answer.err
