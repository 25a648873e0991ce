"""How long work talks to a person: sentences and progress bars on stderr, or nothing.

Work is handed a `Talk` and never prints. Python code gets the silent one; the command line gives `TerminalTalk`.

A label, a text or a file name may hold characters that drive a terminal. Whatever is shown goes through `printable`;
`SafeConsole` does that for tables, and takes no brackets in them for markup.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

BAR_AFTER_S = 2.0  # what takes less shows no bar

# Bidirectional embeddings, overrides and isolates; separators of lines and paragraphs; halves of surrogate pairs.
_CONTROLS_ABOVE_ASCII = [*range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)]
_CONTROLS = [code for code in range(0x20) if chr(code) not in "\t\n"]
_IN_JSON = {code: f"\\u{code:04x}" for code in _CONTROLS_ABOVE_ASCII}
_IN_TEXT = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in [*_CONTROLS, *_CONTROLS_ABOVE_ASCII]
}

Advance = Callable[[int, str], None]  # (units done, what to show beside the bar)


def printable(text: str) -> str:
    """A text in which nothing drives a terminal: control characters are shown by their codes.

    Line ends and tabs stay, and so do joiners and other format characters that scripts and emoji are written with.

    >>> printable("spam\\x1b[2J"), printable("\\u202egnp.exe"), printable("by\\u200d")
    ('spam\\\\x1b[2J', '\\\\u202egnp.exe', 'by\\u200d')
    """
    return text if text.isascii() and text.isprintable() else text.translate(_IN_TEXT)


def printable_json(document: str) -> str:
    """A JSON document of the same content in which nothing drives a terminal."""
    return document.translate(_IN_JSON)


class SafeConsole(Console):
    """A rich console that shows strings as they are: no markup, no emoji codes, nothing that drives the terminal."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """See rich: every string that is printed, or is the cell of a table, comes through here."""
        return super().render_str(printable(text), **options)

    @property
    def shows_progress(self) -> bool:
        """Whether lines can be drawn over: on a terminal, and not where colours were merely forced into a pipe."""
        return self.file.isatty() and self.is_terminal and not self.is_dumb_terminal


class Reporter:
    """Says nothing, shows nothing. The base of whatever does."""

    def say(self, sentence: str) -> None:
        """Tell something worth knowing."""

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Advance]:
        """A progress bar over `total` units, while the block runs."""
        yield lambda done, note: None


class TerminalTalk(Reporter):
    """Sentences on stderr; bars when stderr is a terminal and the work takes over two seconds."""

    def __init__(self, console: SafeConsole) -> None:
        self._console = console

    def say(self, sentence: str) -> None:
        """Print a sentence, as it is: no markup, no wrapping in pipes."""
        self._console.print(sentence, soft_wrap=True)

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Advance]:
        """See Talk."""
        if not self._console.shows_progress:
            yield lambda done, note: None
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        progress = Progress(*columns, console=self._console, transient=True)
        task = progress.add_task(what, total=max(total, 1), note="")
        started = time.monotonic()

        def advance(done: int, note: str) -> None:
            if not progress.live.is_started and time.monotonic() - started > BAR_AFTER_S:
                progress.start()
            progress.update(task, advance=done, note=note)

        try:
            yield advance
        finally:
            progress.stop()
