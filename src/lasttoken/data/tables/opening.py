"""A file is opened as a table. Its first bytes, else the user, else its suffix decide its format.

    messages.csv  ──open_table──►  Table: header + Row, Row, …
      text,label                     streamed, values as they are in the file
      Win $1000!,spam

With `on_bad`, a row that cannot be read is passed to it and left out, and the rest streams on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from lasttoken.data.tables.encodings import codec_name, marked_encoding
from lasttoken.data.tables.file_types import reject_other_kinds
from lasttoken.data.tables.format import Format, ReadRequest
from lasttoken.data.tables.formats import format_by_suffix, input_format
from lasttoken.data.tables.lines import first_bytes, read_errors
from lasttoken.data.tables.options import DEFAULT, ReadOptions
from lasttoken.data.tables.raw_bytes import reject_folder
from lasttoken.data.tables.table import BadRow, OnBad, Row, Table, place_of, row_fault

MOST_NAMED = 5  # rows that a note names when rows are left out


@contextmanager
def open_table(
    path: str | Path,
    *,
    options: ReadOptions = DEFAULT,
    asked: Collection[str] = (),
    on_bad: OnBad | None = None,
    labelled: bool = True,
    every_key: bool = False,
) -> Iterator[Table]:
    """Open a file as a table whose rows stream: memory does not grow with the file.

    A truncated file, or a quote that is never closed, ends the reading even with `on_bad`.

    Args:
        path: the file.
        options: its encoding, format and limits. With `skip_unreadable`, rows that cannot be read are left out and
            counted in the table's late notes.
        asked: the columns that the user named: a first line that has one of them is a header.
        on_bad: is called with each row that cannot be read.
        labelled: labels are read, and rows that an annotator rejected are left out.
        every_key: the header has every key of a JSON file.

    Raises:
        DataError: the file cannot be opened, or not be read in its format.
        SettingsError: `options.format` is not the name of a format.
    """
    path = Path(path)
    left_out: list[BadRow] = []
    skips = options.skip_unreadable and on_bad is None
    with ExitStack() as stack:
        with read_errors(path, options.encoding):
            reject_folder(path)
            path.stat()  # a missing file is reported before its suffix is
        start = first_bytes(path)
        notes: tuple[str, ...] = ()
        if (marked := marked_encoding(start)) and codec_name(options.encoding) == "utf-8":
            options = replace(options, encoding=marked)
            notes = (f"{path.name} is read as {marked}, as its byte order mark says",)
        file_format = input_format(path, start, options.format)
        if file_format.is_text:
            reject_other_kinds(path, start, options.encoding)
        on_bad = left_out.append if skips else on_bad
        table = file_format.read(ReadRequest(path, options, stack, asked, on_bad, labelled, every_key))
        table = replace(table, notes=(*notes, *_format_notes(path, file_format, options), *table.notes))
        yield _skipping(table, left_out, options) if skips else table


def _format_notes(path: Path, file_format: Format, options: ReadOptions) -> tuple[str, ...]:
    """A note if a file is read in another format than its suffix or the user says, because its content shows it."""
    if file_format is format_by_suffix(path) or file_format.name == options.format:
        return ()
    return (f"{path.name} holds {file_format.title}, and is read as {file_format.title}",)


def _skipping(table: Table, left_out: list[BadRow], options: ReadOptions) -> Table:
    """The table without the rows that cannot be read; its late notes count them."""

    def read(columns: Sequence[str]) -> Iterator[Row]:
        for row in table.read(columns):
            if fault := row_fault(row, options.encoding):
                left_out.append(BadRow(row.number, row.line, fault))
            else:
                yield row
        if left_out:
            named = [f"{place_of(bad.number, bad.line, table.source)} {bad.reason}" for bad in left_out[:MOST_NAMED]]
            unnamed = f"; and {len(left_out) - MOST_NAMED:,} more" if len(left_out) > MOST_NAMED else ""
            n = len(left_out)
            counted = f"{n:,} {'row is' if n == 1 else 'rows are'} left out because reading failed"
            table.late_notes.append(f"{table.source}: {counted}: {'; '.join(named)}{unnamed}")

    return replace(table, read=read)
