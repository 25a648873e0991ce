"""How long work talks to a person: sentences and progress bars on stderr, or nothing.

Work is handed a `Talk` and never prints. Python code gets the silent one; the command line gives `TerminalTalk`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

BAR_AFTER_S = 2.0  # what takes less shows no bar

Advance = Callable[[int, str], None]  # (units done, what to show beside the bar)


class Talk:
    """Says nothing, shows nothing. The base of whatever does."""

    def say(self, sentence: str) -> None:
        """Tell something worth knowing."""

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Advance]:
        """A progress bar over `total` units, while the block runs."""
        yield lambda done, note: None


class TerminalTalk(Talk):
    """Sentences on stderr; bars when stderr is a terminal and the work takes over two seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, sentence: str) -> None:
        """Print a sentence, as it is: no markup, no wrapping in pipes."""
        self._console.print(sentence, markup=False, emoji=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Advance]:
        """See Talk."""
        if not self._console.is_terminal:
            yield lambda done, note: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
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
