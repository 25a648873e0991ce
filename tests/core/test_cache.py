"""The contents of the cache: sizes by kind, and what clearing removes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lasttoken.core.cache import FOLDERS, Usage, clear, usage


@pytest.fixture
def filled(own_cache: Path) -> Path:
    """A cache with a file of each kind."""
    for n_bytes, folder in enumerate(FOLDERS.values(), 1):
        (own_cache / folder / "entry").mkdir(parents=True)
        (own_cache / folder / "entry" / "file").write_bytes(b"x" * n_bytes)
    return own_cache


def test_usage_counts_bytes_and_files_of_one_kind(filled: Path) -> None:
    assert [usage(kind) for kind in FOLDERS] == [Usage(1, 1), Usage(2, 1), Usage(3, 1), Usage(4, 1)]


def test_clear_removes_the_given_kinds_and_returns_their_bytes(filled: Path) -> None:
    assert clear(["features", "logs"]) == 5
    assert [usage(kind).n_files for kind in FOLDERS] == [0, 1, 1, 0]
    assert clear(["features"]) == 0


def test_what_is_being_written_stays_for_a_day(filled: Path) -> None:
    fresh, old = (filled / "features" / f"entry.tmp-1-{name}" for name in ("fresh", "old"))
    for folder in (fresh, old):
        folder.mkdir()
    os.utime(old, (0, 0))
    clear(["features"])
    assert fresh.is_dir()
    assert not old.exists()
