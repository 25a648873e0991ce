"""Tables of lines and fields: CSV, tab-separated, fastText's `__label__`, and one text a line.

CSV is RFC 4180 with its quotes. In a tab-separated file quotes are text, unless it uses them as spreadsheets do all
through (dialect.py).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from lasttoken.core.errors import DataError
from lasttoken.data.dialect import UNCLOSED, Dialect, find_dialect, find_header, has_written_quotes, take_ahead
from lasttoken.data.lines import LongLine, long_fault
from lasttoken.data.options import ReadOptions
from lasttoken.data.tables import LABEL_NAMES, TEXT_NAMES, BadRow, OnBad, Row, Table, place_of, refuse, shown

LINES_AHEAD, CHARACTERS_AHEAD = 1000, 1 << 20  # read to find the dialect and the header
TITLE_LINES = 20  # among which a line of column names is looked for when the first is none
FIELD_LIMIT_BYTES = 2**31 - 1  # of the csv module, whose own 128 KiB are too few; rows are bounded here
FASTTEXT = re.compile(r"((?:__label__\S+\s+)*)(.*)", re.DOTALL)
FASTTEXT_LABEL = "__label__"

Record = tuple[int, list[str] | str]  # the line a record starts on, and its fields, or why it has none


def delimited_table(
    lines: Iterator[str],
    path: Path,
    options: ReadOptions,
    *,
    tabbed: bool,
    asked: Collection[str],
    on_bad: OnBad | None,
    read_again: Callable[[], Iterator[str]] | None,
) -> Table:
    """The table of a text file; `tabbed`: its suffix says tabs. `read_again` gives its lines from the start once more.

    Raises:
        DataError: no line, or a header that cannot be used.
    """
    source = path.name
    ahead, whole = take_ahead(lines, LINES_AHEAD, CHARACTERS_AHEAD)
    dialect = find_dialect(ahead, tabbed, options, asked, whole)
    if dialect.separator == "\t":
        again = (line for line in (read_again() if read_again else ahead[: None if whole else -1]))
        if has_written_quotes(_behind(again, dialect.n_before), options.max_row_bytes):
            note = "quotes around its fields are read as quotes, as spreadsheets write them"
            dialect = replace(dialect, quotes=True, notes=(*dialect.notes, note))
    rest = _behind(chain(ahead, lines), dialect.n_before)
    if dialect.quotes:
        records = _csv_records(rest, source, dialect, options, tolerant=on_bad is not None)
    else:
        records = _plain_records(rest, dialect, options)
    first = _take_records(records, len(ahead))
    fields = [record for _, record in first if isinstance(record, list)]
    if not fields:
        raise DataError(f"{source} is empty; it needs a line of column names and a row for each example")
    if options.header:
        _refuse_lines_above(first, source, asked)
    header = find_header(fields, source, options, asked)
    while header.from_file and not isinstance(first.pop(0)[1], list):
        pass
    notes = (*(f"{source}: {note}" for note in dialect.notes), *header.notes)
    if header.notes and not dialect.quotes:
        notes = (*notes[:-1], f"{notes[-1]}, quotes as text")
    records = chain(first, records)
    n_fields = len(header.names)
    return Table(
        source,
        header.names,
        lambda _: _rows(records, header.names, source, _fix(dialect, n_fields), on_bad),
        not header.from_file,
        notes,
        dialect.separator,
    )


def _refuse_lines_above(first: list[Record], source: str, asked: Collection[str]) -> None:
    """Refuse a file whose line of column names has lines above it, such as a title or comments.

    Raises:
        DataError: names the line that seems to be the header.
    """
    for place, (line, fields) in enumerate(first[:TITLE_LINES]):
        cells = set(fields) if isinstance(fields, list) else set()
        names = {cell.strip().casefold() for cell in cells}
        is_header = len(asked) > 1 and cells >= set(asked)
        if place == 0 and (is_header or cells & set(asked) or names & (TEXT_NAMES | LABEL_NAMES)):
            return
        if is_header or (names & TEXT_NAMES and names & LABEL_NAMES):
            raise DataError(
                f"line {line} of {source} seems to be its line of column names ({shown(fields)}); remove the lines "
                "above it"
            )


def _behind(lines: Iterator[str], n: int) -> Iterator[str]:
    for _ in range(n):
        next(lines, None)
    return lines


def _take_records(records: Iterator[Record], n_lines: int) -> list[Record]:
    """The records that begin within the first lines."""
    found = []
    for record in records:
        found.append(record)
        if record[0] >= n_lines:
            break
    return found


class _Feed:
    """Lines for the csv module, which counts them, and stops where one record grows beyond the bound."""

    def __init__(self, lines: Iterator[str], limit: int, n_before: int) -> None:
        self._lines, self._limit, self.n_lines, self.size = lines, limit, n_before, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.n_lines += 1
        begun = self.size > 0
        self.size += len(line)
        if isinstance(line, LongLine) or self.size > self._limit:
            raise _LongRecordError(begun)
        return line


class _LongRecordError(Exception):
    """A record beyond the bound; `begun`: within quotes, so that where it ends is not known."""

    def __init__(self, begun: bool) -> None:
        super().__init__()
        self.begun = begun


def _csv_records(
    lines: Iterator[str], source: str, dialect: Dialect, options: ReadOptions, tolerant: bool
) -> Iterator[Record]:
    """Strict RFC 4180: a quote that is never closed would otherwise swallow the rest of the file unsaid."""
    csv.field_size_limit(FIELD_LIMIT_BYTES)
    feed = _Feed(lines, options.max_row_bytes, dialect.n_before)
    reader = csv.reader(feed, delimiter=dialect.separator, skipinitialspace=dialect.skip_space, strict=True)
    n_before = 0
    while True:
        line, feed.size = feed.n_lines + 1, 0
        try:
            record = next(reader, None)
        except (csv.Error, _LongRecordError) as error:
            fault, goes_on = _csv_fault(error, options)
            place = place_of(n_before, line, source) if n_before else f"the header (line {line}) of {source}"
            if not tolerant or not n_before or not goes_on:
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
    """What is wrong with a record, and whether the next one can be found behind it."""
    if isinstance(error, _LongRecordError):
        unclosed = "; or it opens a quote that is never closed" if error.begun else ""
        return long_fault(options) + unclosed, not error.begun
    reason = str(error)
    if UNCLOSED in reason:
        return 'opens a quote that is never closed; close it, or write quotes that are text twice ("")', False
    if "expected after" in reason:
        return 'has text after a closing quote; write quotes inside a quoted field twice ("")', True
    return f"is not CSV ({reason}); fix the row", True


def _plain_records(lines: Iterator[str], dialect: Dialect, options: ReadOptions) -> Iterator[Record]:
    for number, line in enumerate(lines, dialect.n_before + 1):
        content = line.removesuffix("\n").removesuffix("\r")
        if isinstance(line, LongLine):
            yield number, long_fault(options)
        elif content:
            yield number, content.split(dialect.separator)


def _fix(dialect: Dialect, n_fields: int) -> str:
    """What to do about a row of another number of fields."""
    if dialect.separator == "\t":
        return "replace tabs inside a text by spaces" if not dialect.quotes else "quote fields that hold a tab"
    sign = "a comma" if dialect.separator == "," else f"{dialect.separator!r}"
    space = ", with no space before the quote" if not dialect.skip_space else ""
    alone = "" if n_fields > 1 else ", or name the separator of the file with --separator"
    return f"quote fields that hold {sign}{space}{alone}"


def _rows(records: Iterator[Record], header: list[str], source: str, fix: str, on_bad: OnBad | None) -> Iterator[Row]:
    n_fields = len(header)
    for number, (line, fields) in enumerate(records, 1):
        if isinstance(fields, str):
            refuse(BadRow(number, line, fields), source, on_bad)
        elif len(fields) != n_fields:
            counted = f"{len(fields)} {'field' if len(fields) == 1 else 'fields'}"
            fault = f"has {counted} where {n_fields} are expected; {fix}, or fix the row"
            refuse(BadRow(number, line, fault), source, on_bad)
        else:
            yield Row(number, line, dict(zip(header, fields, strict=True)))


# One text a line --------------------------------------------------------------------------------------------------


def is_fasttext(ahead: list[str]) -> bool:
    """Do the lines begin with fastText's labels?"""
    return bool(ahead) and ahead[0].lstrip("\ufeff").startswith(FASTTEXT_LABEL)


def text_lines_table(
    lines: Iterator[str], path: Path, options: ReadOptions, *, labelled: bool, on_bad: OnBad | None
) -> Table:
    """One text a line; `labelled`: behind fastText's labels, `__label__spam __label__urgent You won`."""
    source = path.name

    def read(_: object) -> Iterator[Row]:
        number = 0
        for line, content in enumerate(lines, 1):
            if not content.strip():
                continue
            number += 1
            if isinstance(content, LongLine):
                refuse(BadRow(number, line, long_fault(options)), source, on_bad)
                continue
            text = content.rstrip("\r\n")
            yield Row(number, line, _fasttext_values(text) if labelled else {"text": text})

    note = f"{source} is read as fastText's: labels begin with {FASTTEXT_LABEL}, the rest of a line is the text"
    header = ["label", "text"] if labelled else ["text"]
    return Table(source, header, read, True, (note,) if labelled else ())


def _fasttext_values(line: str) -> dict[str, object]:
    """The labels before the text, without their mark.

    >>> _fasttext_values("__label__spam You won"), _fasttext_values("__label__a __label__b x")
    ({'label': 'spam', 'text': 'You won'}, {'label': ['a', 'b'], 'text': 'x'})
    """
    match = FASTTEXT.fullmatch(line)
    marks, text = match.groups() if match else ("", line)
    labels = [mark.removeprefix(FASTTEXT_LABEL) for mark in marks.split()]
    return {"label": labels[0] if len(labels) == 1 else labels, "text": text}
