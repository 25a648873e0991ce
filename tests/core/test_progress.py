"""Reporters: what is printed is safe for a terminal, and silence is the default."""

from __future__ import annotations

import json
import re
import threading

import pytest
from rich.progress import Progress

from lasttoken.core.progress import Reporter, SafeConsole, TerminalReporter, printable, printable_json

HOSTILE = "\x1b]0;owned\x07\x1b[2J"  # sets the title of the window, clears the screen
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize(
    "text", ["می\u200cخواهم", "👩\u200d👧", "🏴\U000e0067\U000e0062\U000e007f", "a\tb\nc", "naïve £5"]
)
def test_joiners_and_tags_of_scripts_and_emoji_stay(text: str) -> None:
    assert printable(text) == text
    console = SafeConsole()
    with console.capture() as capture:
        console.print(text, soft_wrap=True)
    assert capture.get().rstrip("\n").split() == text.split()


@pytest.mark.parametrize(
    "character", ["\x00", "\r", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\u202e", "\u2066", "\ud83d"]
)
def test_each_control_character_is_replaced_by_its_code(character: str) -> None:
    assert f"{ord(character):02x}" in printable(f"a{character}b")
    assert character not in printable(f"a{character}b")
    document = json.dumps({"a": character}, ensure_ascii=False)
    assert character not in printable_json(document)
    assert json.loads(printable_json(document)) == {"a": character}


def test_sentences_are_escaped_and_brackets_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalReporter(SafeConsole(stderr=True)).say(f"reading {HOSTILE}[red].csv")
    shown = capsys.readouterr().err
    assert not CONTROLS.search(shown)
    assert "[red].csv" in shown


def test_a_bar_appears_after_two_seconds_of_work_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 1.0, 2.0, 3.0])
    starts: list[bool] = []
    monkeypatch.setattr("lasttoken.core.progress.time.monotonic", lambda: next(seconds))
    monkeypatch.setattr("lasttoken.core.progress.Progress.start", lambda self: starts.append(True))
    monkeypatch.setattr(SafeConsole, "shows_progress", True)
    is_shown = []
    with TerminalReporter(SafeConsole()).bar("training", 10) as advance:
        for _ in range(3):
            advance(1, "loss 0.5")
            is_shown.append(bool(starts))
    assert is_shown == [False, False, True]


def test_work_without_units_shows_what_it_is_once_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    started = threading.Event()

    def start(progress: Progress) -> None:
        shown.extend(task.description for task in progress.tasks)
        started.set()

    monkeypatch.setattr("lasttoken.core.progress.Progress.start", start)
    monkeypatch.setattr(SafeConsole, "shows_progress", True)
    reporter = TerminalReporter(SafeConsole())
    with reporter.working("work that is over at once"):
        pass
    monkeypatch.setattr("lasttoken.core.progress.BAR_AFTER_S", 0.0)
    with reporter.working("training the baselines"):
        assert started.wait(60)
    assert shown == ["training the baselines"]
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_a_bar_takes_the_place_of_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work may download something, with a bar of its own; two live lines would overwrite each other."""
    monkeypatch.setattr(SafeConsole, "shows_progress", True)
    with TerminalReporter(SafeConsole()).working("loading"):
        assert [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
        with TerminalReporter(SafeConsole()).bar("fetching", 10):
            assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_an_error_ends_the_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SafeConsole, "shows_progress", True)
    with pytest.raises(ValueError, match="of the block"), TerminalReporter(SafeConsole()).working("reading"):
        raise ValueError("of the block")
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_nothing_is_printed_by_default_and_no_bar_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    for reporter in (Reporter(), TerminalReporter(SafeConsole(stderr=True))):
        with reporter.bar("training", 2) as advance:
            advance(2, "")
        with reporter.working("reading"):
            pass
    Reporter().say("a sentence")
    assert capsys.readouterr() == ("", "")
