"""What commands print: tables of one width, colours only where they are wanted, control characters escaped."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from miniature import run_cli

from lasttoken.cli.show import new_table, print_json, print_line, print_table, rows_to_stdout, terminal
from lasttoken.core.progress import TerminalReporter

ESCAPE = "\x1b[2J"


def test_colours_in_a_pipe_only_by_force(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in run_cli("audit", data).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" in run_cli("audit", data).out


def test_tables_are_not_cut_on_a_narrow_terminal(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = run_cli("audit", data).out
    monkeypatch.setenv("COLUMNS", "20")
    assert run_cli("audit", data).out == wide


def test_columns_after_the_first_are_right_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    table = new_table("name", "rows")
    table.add_row("a", "1")
    table.add_row("bb", "1,000")
    print_table(table)
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "name   rows",
        "a         1",
        "bb    1,000",
    ]


def test_control_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(f"a {ESCAPE}")
    print_json({"text": f"a {ESCAPE}"})
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("is_terminal", [True, False])
def test_rows_are_escaped_on_a_terminal_only(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    monkeypatch.setattr("sys.stdout", stream)
    rows_to_stdout(as_json=False).write(f"a {ESCAPE}\n")
    assert ("\x1b" in stream.getvalue()) != is_terminal


def test_a_quiet_reporter_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(terminal(quiet=False), TerminalReporter)
    terminal(quiet=True).say("done")
    assert capsys.readouterr().err == ""
