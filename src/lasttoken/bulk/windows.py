"""The rows of an input in windows, each read and encoded in a thread while the window before it is classified.

No answer depends on its window, and memory holds three windows whatever the file's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from lasttoken.bulk.parts import Counts
from lasttoken.classifier.encoding import Encoded
from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import DataError
from lasttoken.data.columns import Columns
from lasttoken.data.tables.columnar import ArrowRow
from lasttoken.data.tables.table import BadRow, OnBad, Row, Table, report_bad, row_fault

WINDOW = 4096  # rows read, classified and written at a time


@dataclass(frozen=True)
class Window:
    """Rows of the input with their texts as token ids, and the rows between them that could not be read."""

    rows: list[Row]
    encoded: Encoded
    bad: list[BadRow]
    n_empty: int  # rows with an empty or blank text

    @property
    def counts(self) -> Counts:
        """How many rows are classified, cut and rejected."""
        return Counts(len(self.rows), int(self.encoded.cut.sum()), len(self.bad), self.n_empty)


@dataclass(frozen=True)
class Input:
    """An open table, the columns of its texts, and the list to which its reader adds rows that cannot be read."""

    table: Table
    columns: Columns
    encoding: str
    bad: list[BadRow]
    strict: bool  # the first row that cannot be read is an error
    window: int | None = None  # rows of a window; None: WINDOW
    may_be_empty: bool = False  # no rows are not an error


def read_windows(input: Input, predictor: Predictor, skip: int = 0) -> Iterator[Window]:
    """The windows of a table from number `skip` on.

    Raises:
        DataError: no rows, or with `strict` one that cannot be read.
    """
    batches = _row_windows(input)
    for _ in range(skip):
        next(batches, None)

    def read_next() -> Window | None:
        batch = next(batches, None)
        return None if batch is None else _encoded(*batch, input, predictor)

    with ThreadPoolExecutor(1, thread_name_prefix="encode") as pool:
        coming = pool.submit(read_next)
        while (window := coming.result()) is not None:
            coming = pool.submit(read_next)
            yield window


class WindowReader:
    """Windows by their numbers, of a table that is read once more where a number is smaller than the last one."""

    def __init__(self, opened: Callable[[ExitStack], Input], predictor: Predictor) -> None:
        self._opened, self._predictor = opened, predictor
        self._stack = ExitStack()
        self._next = -1  # the number of the window that comes next; -1: the table is not open

    def __enter__(self) -> WindowReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def window(self, number: int) -> Window | None:
        """Window `number`; None if there are fewer.

        Raises:
            DataError: see `read_windows`.
        """
        if self._next < 0 or number < self._next:
            self._stack.close()
            self._input = self._opened(self._stack)
            self._batches, self._next = _row_windows(self._input), 0
        while self._next < number:
            next(self._batches, None)
            self._next += 1
        self._next += 1
        batch = next(self._batches, None)
        return None if batch is None else _encoded(*batch, self._input, self._predictor)


def _encoded(rows: list[Row], unread: list[BadRow], input: Input, predictor: Predictor) -> Window:
    """The window of these rows; the input's list of bad rows is emptied."""
    good, texts = _readable(rows, input, None if input.strict else input.bad.append)
    unread += input.bad
    input.bad.clear()
    n_empty = sum(not text or text.isspace() for text in texts)
    return Window(good, predictor.encode(texts), sorted(unread), n_empty)


def _row_windows(input: Input) -> Iterator[tuple[list[Row], list[BadRow]]]:
    """Rows and unreadable rows, WINDOW of both together at a time; where windows end depends on the file alone."""
    table, bad, window = input.table, input.bad, input.window or WINDOW
    rows: list[Row] = []
    empty = True
    for row in table.read(table.header):
        empty = False
        rows.append(row)
        if len(rows) + len(bad) >= window:
            taken = bad[:]
            bad.clear()  # before the window is yielded, because `_readable` adds rows of its own to `bad`
            yield rows, taken
            rows = []
    if empty and not bad and not input.may_be_empty:
        raise DataError(table.no_rows)
    if rows or bad:
        taken = bad[:]
        bad.clear()
        yield rows, taken


def _readable(rows: Sequence[Row], input: Input, on_bad: OnBad | None) -> tuple[list[Row], list[str]]:
    """The rows that can be classified and written, and their texts; the others go to `on_bad`."""
    good, texts = [], []
    for row in rows:
        names = row.values.batch.text_names if isinstance(row.values, ArrowRow) else None
        fault = row_fault(row, input.encoding, names)
        if fault is None:
            try:
                text = input.columns.text_of(input.table, row)
            except DataError as error:
                if on_bad is None:
                    raise
                fault = str(error)
            else:
                good.append(row)
                texts.append(text)
                continue
        report_bad(BadRow(row.number, row.line, fault), input.table.source, on_bad)
    return good, texts
