"""What a table is, in whatever format its file is: a header, and rows that stream with values as the file has them.

Every message names the row, counted from 1 without the header, and the line of the file.
"""

from __future__ import annotations

import datetime
import decimal
import math
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lasttoken.core.errors import DataError, one_of

if TYPE_CHECKING:
    from lasttoken.data.tables.dialect import Dialect

# fmt: off
TEXT_NAMES = frozenset((
    "text", "texts", "message", "messages", "msg", "sms", "body", "content", "sentence", "sentences", "review",
    "comment", "question", "query", "utterance", "tweet", "post", "title", "headline", "document", "email", "mail",
    "description",
))
LABEL_NAMES = frozenset((
    "label", "labels", "class", "classes", "category", "categories", "target", "intent", "sentiment", "topic", "tag",
    "emotion", "y",
))
# fmt: on
FIRST_ESCAPED, LAST_ESCAPED = "\udc80", "\udcff"  # stand for bytes that cannot be decoded (PEP 383)
MOST_LEVELS = 100  # of nested lists and objects in one value


class BadRow(NamedTuple):
    """A row that cannot be read, and why."""

    number: int
    line: int | None
    reason: str


OnBad = Callable[[BadRow], None]


class Row(NamedTuple):
    """One row as it stands in its file; `number` counts from 1, `line` is None where a format has no lines."""

    number: int
    line: int | None
    values: Mapping[str, object]


@dataclass(frozen=True)
class Table:
    """A header, and rows that can be read once. `headerless`: the file has no header, the names are ours."""

    source: str
    header: list[str]
    read: Callable[[Sequence[str]], Iterator[Row]]
    headerless: bool = False
    notes: tuple[str, ...] = ()
    separator: str | None = None  # between the fields of a line, in formats that have lines of fields
    dialect: Dialect | None = None  # how these fields are written
    is_converted: bool = False  # its rows are not the file's own, but made of them
    late_notes: list[str] = field(default_factory=list)  # known only after the rows were read: how many were left out

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """The rows, with the values of at least these columns (all by default).

        Raises:
            DataError: no rows, or a row that cannot be read.
        """
        empty = True
        for row in self.read(self.header if columns is None else columns):
            empty = False
            yield row
        if empty:
            raise DataError(self.no_rows)

    @property
    def no_rows(self) -> str:
        """The message about a table without rows."""
        return f"{self.source} has columns {listed(self.header)} but no rows; add examples below the header"

    def place(self, row: Row) -> str:
        """How a message names a row: "row 3 (line 4) of messages.csv"."""
        return place_of(row.number, row.line, self.source)

    def cell(self, row: Row, column: str) -> str | None:
        """A row's value in one column as a string; None when it is missing.

        Raises:
            DataError: a list, an object or a lone surrogate.
        """
        value = row.values.get(column)
        try:
            return as_string(value)
        except (TypeError, UnicodeError) as error:
            raise DataError(f"{self.place(row)} has {error} in column {column!r}, which must hold a string") from error


def as_string(value: object) -> str | None:
    """A value of a file or a frame as a string: 1 → "1", 1.0 → "1.0", True → "true", NaN → None.

    Raises:
        TypeError: not a single value; the message says what it is.
        UnicodeError: a lone surrogate, which is not a character.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise TypeError(f"bytes that are not text ({brief(value)})") from error
    if isinstance(value, str):
        if not value.isascii():
            _reject_surrogates(value)
        return str(value)
    if type(value).__module__ == "numpy" and hasattr(value, "item"):  # without importing NumPy
        value = value.item()
    if (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, float) and math.isnan(value))
    ):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.timedelta):
        return duration_text(value)
    if isinstance(value, (int, float, decimal.Decimal, datetime.date, datetime.time, uuid.UUID)):
        return str(value)
    kind = {"dict": "an object", "list": "a list"}.get(type(value).__name__, f"a value of type {type(value).__name__}")
    raise TypeError(f"{kind} ({brief(value)})")


def duration_text(value: datetime.timedelta) -> str:
    """A duration as ISO 8601 writes it.

    >>> duration_text(datetime.timedelta(days=1, seconds=2.5)), duration_text(datetime.timedelta(seconds=-3))
    ('P1DT2.500000S', '-PT3S')
    """
    sign, whole = ("-", -value) if value < datetime.timedelta(0) else ("", value)
    seconds = f"{whole.seconds}.{whole.microseconds:06d}" if whole.microseconds else str(whole.seconds)
    return f"{sign}P{f'{whole.days}D' if whole.days else ''}T{seconds}S"


def _reject_surrogates(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnicodeError(f"half a surrogate pair (\\u{ord(text[error.start]):04x})") from error


def brief(value: object) -> str:
    """A value for a message, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def place_of(number: int, line: int | None, source: str) -> str:
    """How a message names a row: "row 3 (line 4) of messages.csv"."""
    return f"row {number} of {source}" if line is None else f"row {number} (line {line}) of {source}"


def listed(names: Iterable[str]) -> str:
    """Column names for a message, each cut to 40 characters."""
    return one_of(name if len(name) <= 40 else name[:39] + "…" for name in names)


def checked_header(header: list[str], source: str) -> list[str]:
    """The header unchanged.

    Raises:
        DataError: a name occurs twice.
    """
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise DataError(f"{source} has more than one column named {listed(twice)}; give every column its own name")
    return header


def report_bad(bad: BadRow, source: str, on_bad: OnBad | None) -> None:
    """Pass a row that cannot be read to `on_bad`.

    Raises:
        DataError: there is no `on_bad`.
    """
    if on_bad is None:
        raise DataError(f"{place_of(bad.number, bad.line, source)} {bad.reason}")
    on_bad(bad)


def not_in(encoding: str) -> str:
    """The end of the fault of a row with bytes that are not in the encoding; rejects are counted by it."""
    return f" that is not {encoding}"


def row_fault(row: Row, encoding: str, names: Iterable[str] | None = None) -> str | None:
    """Why a row cannot be written to a file: undecodable bytes, lone surrogates or too deep nesting; None if it can.

    Keys, and values inside lists and objects, are checked too. `names`: the columns to check; None: all.
    """
    for name in row.values if names is None else names:
        value = row.values.get(name)
        if isinstance(value, str):
            if not value.isascii() and (fault := _text_fault(value, name, encoding)):
                return fault
        elif isinstance(value, list | dict | tuple) and (fault := _inner_fault(value, name, encoding)):
            return fault
        if not name.isascii() and (fault := _text_fault(name, name, encoding)):
            return fault
    return None


def _inner_fault(value: object, column: str, encoding: str, level: int = 1) -> str | None:
    if isinstance(value, str):
        return None if value.isascii() else _text_fault(value, column, encoding)
    if not isinstance(value, list | dict | tuple):
        return None
    if level > MOST_LEVELS:
        return f"has lists and objects nested more than {MOST_LEVELS} levels deep in column {column!r}"
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    faults = (_inner_fault(item, column, encoding, level + 1) for item in inner)
    return next(filter(None, faults), None)


def _text_fault(text: str, column: str, encoding: str) -> str | None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        character = text[error.start]
        if FIRST_ESCAPED <= character <= LAST_ESCAPED:
            return f"has a byte 0x{ord(character) - 0xDC00:02x} in column {column!r}{not_in(encoding)}"
        return f"has half a surrogate pair (\\u{ord(character):04x}) in column {column!r}"
    return None
