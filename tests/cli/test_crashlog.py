"""The log of an internal error says where it happened, and contains nothing of the user."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from miniature import run_cli

from lasttoken.cli.crashlog import write_crash_log

SECRET = "my secret letter"
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX modes")


def broken(*words: object, monkeypatch: pytest.MonkeyPatch, cache: Path) -> tuple[str, Path]:
    """Run a command whose work raises an internal error that quotes the user's text; its log's content and path."""

    def fail(*arguments: object, **options: object) -> None:
        letter = SECRET
        try:
            int(letter)
        except ValueError:
            raise RuntimeError(f"a bug with {letter!r}") from ValueError(letter)

    monkeypatch.setattr("lasttoken.classifier.predict.Predictor.load", fail)
    monkeypatch.setattr("lasttoken.classifier.explain.explain", fail)
    answer = run_cli(*words)
    assert answer.code == 1
    (log,) = (cache / "logs").iterdir()
    assert str(log) in answer.err
    return log.read_text("utf-8"), log


@pytest.mark.parametrize("flag", [["--threshold", SECRET], [f"--threshold={SECRET}"], ["--json"]])
def test_the_log_of_an_internal_error_holds_no_text(
    flag: list[str], own_cache: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, log = broken("predict", run_dir, SECRET, "--", "--another text", monkeypatch=monkeypatch, cache=own_cache)
    log.unlink()
    content, log = broken("predict", run_dir, SECRET, *flag, monkeypatch=monkeypatch, cache=own_cache)
    assert SECRET not in content
    assert str(run_dir) not in content
    assert content.splitlines()[0] == f"lasttoken predict {flag[0].partition('=')[0]}"
    assert "RuntimeError" in content
    assert "ValueError" in content, "its cause"
    assert re.search(r'File ".*predict\.py", line \d+, in predict', content)


@posix
def test_the_log_is_readable_by_its_owner_only(own_cache: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = os.umask(0o000)
    try:
        _, log = broken("predict", run_dir, SECRET, monkeypatch=monkeypatch, cache=own_cache)
    finally:
        os.umask(old)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_causes_in_a_cycle_are_each_logged_once(own_cache: Path) -> None:
    first, second = ValueError("one"), ValueError("two")
    first.__cause__, second.__cause__ = second, first
    assert write_crash_log(first, [], ()).read_text("utf-8").count("ValueError") == 2


def test_only_known_words_of_the_command_line_are_logged(own_cache: Path) -> None:
    log = write_crash_log(OSError(13, SECRET), ["predict", f"--cost={SECRET}", "--jsn", SECRET], {"predict", "--cost"})
    content = log.read_text("utf-8")
    assert content.splitlines()[0] == "lasttoken predict --cost"
    assert content.splitlines()[-1] == "PermissionError (EACCES)"
    assert SECRET not in content
