"""CSV and tab-separated files: lines of fields, read as a table and written.

CSV is RFC 4180 with its quotes. In a tab-separated file quotes are text, unless the whole file uses them as
spreadsheets do (dialect.py).
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from lasttoken.core.errors import DataError
from lasttoken.data.tables.cells import cell_of, csv_line, spreadsheet_safe, tab_line
from lasttoken.data.tables.dialect import UNCLOSED, Dialect, find_dialect, has_written_quotes
from lasttoken.data.tables.format import Format, ReadRequest
from lasttoken.data.tables.header import find_header
from lasttoken.data.tables.lines import LongLine, long_fault, read_lines, take_lines
from lasttoken.data.tables.options import ReadOptions
from lasttoken.data.tables.table import LABEL_NAMES, TEXT_NAMES, BadRow, OnBad, Row, Table, listed, place_of, report_bad
from lasttoken.data.tables.text_lines import is_fasttext, read_fasttext
from lasttoken.data.tables.writing import Added, TextWriter, Values, added_cell

LINES_AHEAD, CHARACTERS_AHEAD = 1000, 1 << 20  # read to determine the dialect and the header
TITLE_LINES = 20  # lines among which the column names are searched when the first line has none
FIELD_LIMIT_BYTES = 2**31 - 1  # of the csv module, whose default of 128 KiB is too small; rows are bounded here

Record = tuple[int, list[str] | str]  # the line that a record starts on, and its fields, or why it cannot be read


# Reading ----------------------------------------------------------------------------------------------------------


def read_csv(request: ReadRequest) -> Table:
    """The table of a CSV file.

    Raises:
        DataError: no line, or a header that cannot be used.
    """
    return _delimited_table(request, _lines(request, ""), tabbed=False)


def read_tsv(request: ReadRequest) -> Table:
    """The table of a tab-separated file; a file that begins with a fastText label is read as fastText.

    Raises:
        DataError: no line, or a header that cannot be used.
    """
    lines = _lines(request, "\n")
    ahead, _ = take_lines(lines, 1, 1)
    lines = chain(ahead, lines)
    if ahead and not request.options.format and is_fasttext(ahead[0]):
        return read_fasttext(request, lines)
    return _delimited_table(request, lines, tabbed=True)


def _lines(request: ReadRequest, newline: str) -> Iterator[str]:
    return request.closing(read_lines(request.path, request.options, newline, request.on_bad is not None))


def _delimited_table(request: ReadRequest, lines: Iterator[str], *, tabbed: bool) -> Table:
    """The table of lines of fields; `tabbed`: the format says that they are separated by tabs."""
    source, options, asked = request.source, request.options, request.asked
    ahead, whole = take_lines(lines, LINES_AHEAD, CHARACTERS_AHEAD)
    dialect = find_dialect(ahead, tabbed, options, asked, whole)
    if dialect.separator == "\t":
        reread = _lines(request, "\n" if tabbed else "") if request.can_reread else iter(ahead[: None if whole else -1])
        if has_written_quotes(_skip(reread, dialect.n_before), options.max_row_bytes):
            note = "quotes around its fields are read as quotes, as spreadsheets write them"
            dialect = replace(dialect, quotes=True, notes=(*dialect.notes, note))
    lines = _skip(chain(ahead, lines), dialect.n_before)
    if dialect.quotes:
        records = _csv_records(lines, source, dialect, options, tolerant=request.on_bad is not None)
    else:
        records = _plain_records(lines, dialect, options)
    first = _take_records(records, len(ahead))
    fields = [record for _, record in first if isinstance(record, list)]
    if not fields:
        raise DataError(f"{source} is empty; it needs a line of column names and a row for each example")
    if options.header:
        _reject_lines_above(first, source, asked)
    header = find_header(fields, source, options, asked)
    while header.from_file and not isinstance(first.pop(0)[1], list):
        pass
    notes = (*(f"{source}: {note}" for note in dialect.notes), *header.notes)
    if header.notes and not dialect.quotes:
        notes = (*notes[:-1], f"{notes[-1]}, quotes as text")
    records = chain(first, records)
    advice = _advice(dialect, len(header.names))
    return Table(
        source,
        header.names,
        lambda _: _rows(records, header.names, source, advice, request.on_bad),
        not header.from_file,
        notes,
        dialect.separator,
        dialect,
    )


def delimited_piece(request: ReadRequest, dialect: Dialect, header: list[str], newline: str) -> Table:
    """The rows of a file that holds some records of a file of this dialect, without the lines above them."""
    lines = _lines(request, newline)
    records = piece_records(lines, request, replace(dialect, n_before=0))
    rows = _rows(records, header, request.source, _advice(dialect, len(header)), request.on_bad)
    return Table(request.source, header, lambda _: rows, separator=dialect.separator, dialect=dialect)


def piece_records(lines: Iterator[str], request: ReadRequest, dialect: Dialect) -> Iterator[Record]:
    """The records of lines that begin with a record; those that cannot be read are passed on, where they end."""
    if dialect.quotes:
        return _csv_records(lines, request.source, dialect, request.options, request.on_bad is not None, in_body=True)
    return _plain_records(lines, dialect, request.options)


def _reject_lines_above(first: list[Record], source: str, asked: Collection[str]) -> None:
    """Reject a file that has lines above its column names, such as a title or comments.

    Raises:
        DataError: names the line that seems to hold the column names.
    """
    for index, (line, fields) in enumerate(first[:TITLE_LINES]):
        cells = set(fields) if isinstance(fields, list) else set()
        names = {cell.strip().casefold() for cell in cells}
        is_header = len(asked) > 1 and cells >= set(asked)
        if index == 0 and (is_header or cells & set(asked) or names & (TEXT_NAMES | LABEL_NAMES)):
            return
        if is_header or (names & TEXT_NAMES and names & LABEL_NAMES):
            raise DataError(
                f"line {line} of {source} seems to hold the column names ({listed(fields)}); remove the lines above it"
            )


def _skip(lines: Iterator[str], n: int) -> Iterator[str]:
    """The lines after the first n."""
    for _ in range(n):
        next(lines, None)
    return lines


def _take_records(records: Iterator[Record], n_lines: int) -> list[Record]:
    """The records that begin within the first lines."""
    taken = []
    for record in records:
        taken.append(record)
        if record[0] >= n_lines:
            break
    return taken


class _Feed:
    """Lines for the csv module: it counts them, and stops where one record grows beyond the limit."""

    def __init__(self, lines: Iterator[str], limit: int, n_before: int) -> None:
        self._lines, self._limit, self.n_lines, self.size = lines, limit, n_before, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.n_lines += 1
        is_inside = self.size > 0
        self.size += len(line)
        if isinstance(line, LongLine) or self.size > self._limit:
            raise _LongRecordError(is_inside)
        return line


class _LongRecordError(Exception):
    """A record beyond the limit; `is_inside`: a line inside quotes exceeds it, so the end of the record is unknown."""

    def __init__(self, is_inside: bool) -> None:
        super().__init__()
        self.is_inside = is_inside


def _csv_records(
    lines: Iterator[str],
    source: str,
    dialect: Dialect,
    options: ReadOptions,
    tolerant: bool,
    in_body: bool = False,
) -> Iterator[Record]:
    """Strict RFC 4180: otherwise a quote that is never closed would silently swallow the rest of the file."""
    csv.field_size_limit(FIELD_LIMIT_BYTES)
    feed = _Feed(lines, options.max_row_bytes, dialect.n_before)
    reader = csv.reader(feed, delimiter=dialect.separator, skipinitialspace=dialect.skip_space, strict=True)
    n_before = 0
    while True:
        line, feed.size = feed.n_lines + 1, 0
        try:
            record = next(reader, None)
        except (csv.Error, _LongRecordError) as error:
            fault, can_go_on = _csv_fault(error, options)
            is_row = in_body or n_before > 0
            number = n_before + 1 if in_body else n_before
            place = place_of(number, line, source) if is_row else f"the header (line {line}) of {source}"
            if not tolerant or not is_row or not can_go_on:
                raise DataError(f"{place} {fault}") from error
            yield line, fault
            n_before += 1
            continue
        if record is None:
            return
        if record:
            yield line, record
            n_before += 1


def _csv_fault(error: Exception, options: ReadOptions) -> tuple[str, bool]:
    """What is wrong with a record, and whether the record after it can be found."""
    if isinstance(error, _LongRecordError):
        unclosed = "; or it opens a quote that is never closed" if error.is_inside else ""
        return long_fault(options) + unclosed, not error.is_inside
    reason = str(error)
    if UNCLOSED in reason:
        return 'opens a quote that is never closed; close it, or escape literal quotes by doubling them ("")', False
    if "expected after" in reason:
        return 'has text after a closing quote; escape quotes inside a quoted field by doubling them ("")', True
    return f"is not CSV ({reason}); fix the row", True


def _plain_records(lines: Iterator[str], dialect: Dialect, options: ReadOptions) -> Iterator[Record]:
    """Lines split at the separator; quotes are text."""
    for number, line in enumerate(lines, dialect.n_before + 1):
        content = line.removesuffix("\n").removesuffix("\r")
        if isinstance(line, LongLine):
            yield number, long_fault(options)
        elif content:
            yield number, content.split(dialect.separator)


def _advice(dialect: Dialect, n_fields: int) -> str:
    """What to do about a row with another number of fields."""
    if dialect.separator == "\t":
        return "replace tabs inside a text by spaces" if not dialect.quotes else "quote fields that contain a tab"
    separator = "a comma" if dialect.separator == "," else f"{dialect.separator!r}"
    space = ", with no space before the quote" if not dialect.skip_space else ""
    hint = "" if n_fields > 1 else ", or name the separator of the file with --separator"
    return f"quote fields that contain {separator}{space}{hint}"


def _rows(
    records: Iterator[Record], header: list[str], source: str, advice: str, on_bad: OnBad | None
) -> Iterator[Row]:
    n_fields = len(header)
    for number, (line, fields) in enumerate(records, 1):
        if isinstance(fields, str):
            report_bad(BadRow(number, line, fields), source, on_bad)
        elif len(fields) != n_fields:
            counted = f"{len(fields)} {'field' if len(fields) == 1 else 'fields'}"
            fault = f"has {counted} where {n_fields} are expected; {advice}, or fix the row"
            report_bad(BadRow(number, line, fault), source, on_bad)
        else:
            yield Row(number, line, dict(zip(header, fields, strict=True)))


# Writing ----------------------------------------------------------------------------------------------------------


class CsvWriter(TextWriter):
    """Writes CSV with a header."""

    format_name = "csv"

    def line(self, cells: Sequence[str]) -> str:
        """A line of these fields."""
        return csv_line(cells)

    def head(self) -> str:
        """The line of column names."""
        names = self.layout.names
        return self.line([spreadsheet_safe(name) for name in names] if self.layout.spreadsheet_safe else names)

    def body(self, rows: Sequence[Values], added: Added) -> str:
        """N rows as lines; `added` has N values for each added column."""
        copied, is_safe = self.layout.kept, self.layout.spreadsheet_safe
        lines = []
        for row, *values in zip(rows, *added, strict=True):
            cells = [*(cell_of(row.get(name)) for name in copied), *map(added_cell, values)]
            lines.append(self.line(list(map(spreadsheet_safe, cells)) if is_safe else cells))
        return "".join(lines)


class TsvWriter(CsvWriter):
    """Writes tab-separated lines with a header."""

    format_name = "tsv"

    def line(self, cells: Sequence[str]) -> str:
        """A line of these fields."""
        return tab_line(cells)


CSV = Format(
    name="csv", title="CSV", read=read_csv, suffixes=(".csv",), plain=True, writer=CsvWriter, for_spreadsheets=True
)
TSV = Format(
    name="tsv",
    title="tab-separated text",
    read=read_tsv,
    suffixes=(".tsv", ".tab"),
    shared_suffixes=(".txt", ""),
    plain=True,
    writer=TsvWriter,
    for_spreadsheets=True,
)
