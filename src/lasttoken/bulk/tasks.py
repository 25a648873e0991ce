"""What a worker process does: windows of one file, or parts of a folder. Both are values that can be sent to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lasttoken.bulk.job import Source, scored_window
from lasttoken.bulk.model import Model
from lasttoken.bulk.parting import score_part
from lasttoken.bulk.parts import Parts
from lasttoken.bulk.windows import Input, WindowReader
from lasttoken.bulk.work import Job
from lasttoken.bulk.workers import share_machine
from lasttoken.data.columns import Columns
from lasttoken.data.tables.opening import open_table
from lasttoken.data.tables.table import BadRow


@dataclass(frozen=True)
class FolderTask:
    """Parts of a folder of parts."""

    job: Job
    model: Model

    @contextmanager
    def open(self, index: int, n: int) -> Iterator[Callable[[int], int]]:
        """See `Task`."""
        share_machine(index, n)
        predictor = self.model.load(self.job.model)
        yield lambda number: score_part(self.job, number, predictor).counts.n_rows


@dataclass(frozen=True)
class WindowTask:
    """Windows of one file, each written as a part beside the output. The parent holds the lock of the output."""

    source: Source
    columns: Columns
    parts: Parts
    top_k: int | None
    strict: bool
    window: int  # rows that are classified at a time
    model: Model

    @contextmanager
    def open(self, index: int, n: int) -> Iterator[Callable[[int], int | None]]:
        """See `Task`."""
        share_machine(index, n)
        predictor = self.model.load()
        with WindowReader(self._opened, predictor) as reader:

            def score(number: int) -> int | None:
                window = reader.window(number)
                if window is None:
                    return None
                return scored_window(predictor, number, window, self.parts, self.top_k).counts.n_rows

            yield score

    def _opened(self, stack: ExitStack) -> Input:
        bad: list[BadRow] = []
        on_bad = None if self.strict else bad.append
        table = stack.enter_context(
            open_table(
                self.source.path, options=self.source.options, asked=self.source.names, on_bad=on_bad, labelled=False
            )
        )
        return Input(table, self.columns, self.source.options.encoding, bad, self.strict, self.window)
