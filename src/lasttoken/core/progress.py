"""Status messages and progress bars of long work, on stderr or not at all.

Work gets a `Reporter` and never prints. By default the reporter is silent; the command line passes a
`TerminalReporter`.

Labels, texts and file names may contain control characters that would change the terminal. Everything that is printed
goes through `printable`; `SafeConsole` does that for tables, and does not interpret brackets in them as markup.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

BAR_UNITS = 1_000_000  # the length of the bar of a download, whatever its size
BAR_AFTER_S = 2.0  # shorter work shows no bar

# C1 controls; line and paragraph separators; bidirectional embeddings, overrides and isolates; surrogates.
_CONTROLS_ABOVE_ASCII = [*range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)]
_CONTROLS = [code for code in range(0x20) if chr(code) not in "\t\n"]
_IN_JSON = {code: f"\\u{code:04x}" for code in _CONTROLS_ABOVE_ASCII}
_IN_TEXT = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in [*_CONTROLS, *_CONTROLS_ABOVE_ASCII]
}

Advance = Callable[[int, str], None]  # (number of units just completed, note beside the bar)

_signs_of_life: list[Callable[[], None]] = []  # functions that remove them: a terminal shows one live line at a time


def printable(text: str) -> str:
    """A text that is safe to print on a terminal: control characters are replaced by their codes.

    Line ends and tabs stay, and so do joiners and other format characters that scripts and emoji need.

    >>> printable("spam\\x1b[2J"), printable("\\u202egnp.exe"), printable("by\\u200d")
    ('spam\\\\x1b[2J', '\\\\u202egnp.exe', 'by\\u200d')
    """
    return text if text.isascii() and text.isprintable() else text.translate(_IN_TEXT)


def printable_json(document: str) -> str:
    """A JSON document with the same content that is safe to print on a terminal."""
    return document.translate(_IN_JSON)


class SafeConsole(Console):
    """A rich console that prints strings literally: no markup, no emoji codes, control characters escaped."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """See rich, which calls this for every string that it prints and every cell of a table."""
        return super().render_str(printable(text), **options)

    @property
    def shows_progress(self) -> bool:
        """Whether a bar can be redrawn: on a terminal, but not in a pipe with forced colours."""
        return self.file.isatty() and self.is_terminal and not self.is_dumb_terminal


class Reporter:
    """A silent reporter, and the base class of the others."""

    def say(self, sentence: str) -> None:
        """Report a sentence."""

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Advance]:
        """A progress bar over `total` units, while the block runs."""
        yield lambda n, note: None

    @contextmanager
    def bytes_bar(self, what: str) -> Iterator[Callable[[int, int | None], None]]:
        """A bar for a download: call it with the bytes so far and all bytes, or None; a retry starts over."""
        with self.bar(what, BAR_UNITS) as advance:
            position = 0

            def progress(n_bytes: int, total: int | None) -> None:
                nonlocal position
                scaled = int(n_bytes / total * BAR_UNITS) if total else position
                advance(scaled - position, f"{n_bytes:,} bytes")
                position = scaled

            yield progress

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """A sign of life while the block runs, of work that has no units; a bar in the block takes its place."""
        yield

    def gives_way(self) -> bool:
        """Whether a library may show bars of its own; a sign of life is removed for them."""
        return False


class TerminalReporter(Reporter):
    """Prints sentences on stderr, and bars if stderr is a terminal and the work takes over two seconds."""

    def __init__(self, console: SafeConsole) -> None:
        self._console = console

    def say(self, sentence: str) -> None:
        """Print a sentence, without markup and without line breaks in pipes."""
        self._console.print(sentence, soft_wrap=True)

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Advance]:
        """See `Reporter`."""
        if not self._console.shows_progress:
            yield lambda n, note: None
            return
        self.gives_way()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        progress = Progress(*columns, console=self._console, transient=True)
        task = progress.add_task(what, total=max(total, 1), note="")
        started = time.monotonic()

        def advance(n: int, note: str) -> None:
            if not progress.live.is_started and time.monotonic() - started > BAR_AFTER_S:
                progress.start()
            progress.update(task, advance=n, note=note)

        try:
            yield advance
        finally:
            progress.stop()

    def gives_way(self) -> bool:
        """See `Reporter`."""
        for remove in _signs_of_life:
            remove()
        return self._console.shows_progress

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """See `Reporter`: after two seconds a line shows what is being done, and for how long."""
        if not self._console.shows_progress:
            yield
            return
        columns = (TextColumn("{task.description}", markup=False), SpinnerColumn("line"), TimeElapsedColumn())
        progress = Progress(*columns, console=self._console, transient=True)
        progress.add_task(what, total=None)
        timer = threading.Timer(BAR_AFTER_S, progress.start)
        timer.daemon = True
        timer.start()

        def remove() -> None:
            timer.cancel()
            timer.join()
            progress.stop()

        _signs_of_life.append(remove)
        try:
            yield
        finally:
            _signs_of_life.remove(remove)
            remove()
