"""`lasttoken cache`: where the cache is, how large it is, and what clearing removes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from miniature import run_cli


@pytest.fixture
def filled(own_cache: Path) -> Path:
    """A cache with one file of each kind, and one that a running command is writing."""
    for folder, name in (("features", "ab/features.bin"), ("datasets", "sms-spam/file"), ("logs", "error.log")):
        path = own_cache / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
    (own_cache / "features" / "cd.tmp-1-aa").mkdir()
    return own_cache


def test_it_says_where_the_cache_is_and_how_large(filled: Path) -> None:
    answer = run_cli("cache")
    assert str(filled) in answer.out
    assert "LASTTOKEN_CACHE" in answer.out
    sizes = json.loads(run_cli("cache", "--json").out)
    assert {kind: sizes[kind]["bytes"] for kind in ("features", "downloads", "logs")} == {
        "features": 1000,
        "downloads": 1000,
        "logs": 1000,
    }


def test_an_absent_cache_is_empty_and_stays_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTTOKEN_CACHE", str(tmp_path / "none"))
    assert json.loads(run_cli("cache", "--json").out)["features"] == {"bytes": 0, "files": 0}
    assert not (tmp_path / "none").exists()


def test_clearing_asks_first_and_removes_one_kind(filled: Path) -> None:
    rejected = run_cli("cache", "--clear", "features")
    assert rejected.code == 2
    assert "--yes" in rejected.err
    assert (filled / "features" / "ab").is_dir()
    assert run_cli("cache", "--clear", "features", "--yes").code == 0
    assert not (filled / "features" / "ab").exists()
    assert (filled / "features" / "cd.tmp-1-aa").is_dir(), "what is being written stays"
    assert (filled / "datasets" / "sms-spam" / "file").is_file()
    assert run_cli("cache", "--clear", "all", "--yes").code == 0
    assert not (filled / "datasets" / "sms-spam").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_clearing_follows_no_link_out_of_the_cache(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (filled / "features" / "link").symlink_to(tmp_path)
    assert run_cli("cache", "--clear", "features", "--yes").code == 0
    assert (tmp_path / "mine").is_file()


def test_the_variable_is_in_the_help() -> None:
    assert "LASTTOKEN_CACHE" in run_cli("--help").out
    assert "LASTTOKEN_CACHE" in run_cli("cache", "--help").out


@pytest.mark.parametrize("place", ["no folder", "no permission", "a file"])
def test_a_cache_that_cannot_be_written_is_reported(
    place: str, data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "no folder":
        if not Path("/proc/self").exists():
            pytest.skip("needs a file system that takes no folders: /proc")
        cache = Path("/proc/cache")
    else:
        cache = tmp_path / "cache"
        cache.write_text("a file") if place == "a file" else cache.mkdir()
    if place == "no permission":
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK | os.X_OK and access(path, mode))
    monkeypatch.setenv("LASTTOKEN_CACHE", str(cache))
    answer = run_cli("train", data, "--backbone", backbone, "--epochs", 1, "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert str(cache) in answer.err
    assert "--cache-limit" not in answer.err
