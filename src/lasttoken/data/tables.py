"""Files as tables: CSV, TSV, JSONL and Parquet become a header and rows that stream by.

    messages.csv  ──open_table──►  Table: header + Row, Row, …
      text,label                     nothing kept, values as they were
      Win $1000!,spam

A reader that can do without a row gives `on_bad`, which is told of each row that cannot be read; the rest streams on.

CSV is RFC 4180 with its quotes; a tab-separated file has no quoting, so quotes there are text. JSONL is one object
a line (jsonlines.org). Every message names the row, counted from 1 without the header, and the line of the file.
"""

from __future__ import annotations

import codecs
import csv
import datetime
import decimal
import gzip
import io
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lasttoken.data.options import DEFAULT, ReadOptions
from lasttoken.errors import DataError, nearest, one_of

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
FORMATS = {
    ".csv": "csv",
    ".tsv": "tab",
    ".tab": "tab",
    ".txt": "tab",
    "": "tab",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
}
HEADER_LOOK_AHEAD = 1000  # lines read to tell a first line of data from a header
KEYS_LOOK_AHEAD = 100  # JSON lines whose keys make the header
FIELD_LIMIT_BYTES = 2**31 - 1  # of a CSV field; the csv module's own 128 KiB is less than a long document


class BadRow(NamedTuple):
    """A row that cannot be read, and why."""

    number: int
    line: int | None
    reason: str


OnBad = Callable[[BadRow], None]


class Row(NamedTuple):
    """One row as its file gives it; `number` counts from 1, `line` is None where a format has no lines."""

    number: int
    line: int | None
    values: Mapping[str, object]


@dataclass(frozen=True)
class Table:
    """A header and rows that stream by once. `headerless`: the names in `header` are ours, the file has none."""

    source: str
    header: list[str]
    read: Callable[[Sequence[str]], Iterator[Row]]
    headerless: bool = False
    notes: tuple[str, ...] = ()

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """The rows, with at least these columns' values (all by default).

        Raises:
            DataError: no rows, or one that cannot be read; names it.
        """
        empty = True
        for row in self.read(self.header if columns is None else columns):
            empty = False
            yield row
        if empty:
            raise DataError(self.no_rows)

    @property
    def no_rows(self) -> str:
        """What to say of a table without a row."""
        return f"{self.source} has columns {shown(self.header)} but no rows; add examples below the header"

    def place(self, row: Row) -> str:
        """How a message names a row: "row 3 (line 4) of messages.csv"."""
        return place_of(row.number, row.line, self.source)

    def cell(self, row: Row, column: str) -> str | None:
        """A row's value in one column as a string, None when it is missing.

        Raises:
            DataError: a list, an object or half a character where a string is needed.
        """
        value = row.values.get(column)
        try:
            return as_string(value)
        except (TypeError, UnicodeError) as error:
            raise DataError(f"{self.place(row)} has {error} in column {column!r}; a string is needed there") from error


def as_string(value: object) -> str | None:
    """A value of a file or a frame as a string: 1 → "1", 1.0 → "1.0", True → "true", NaN → None.

    Raises:
        TypeError: not a single value; says what it is.
        UnicodeError: half a surrogate pair, which is no character.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if isinstance(value, str):
        if not value.isascii():
            _refuse_surrogates(value)
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, float) and math.isnan(value))
    ):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, decimal.Decimal, datetime.date, datetime.time)):
        return str(value)
    kind = {"dict": "an object", "list": "a list"}.get(type(value).__name__, f"a value of type {type(value).__name__}")
    raise TypeError(f"{kind} ({brief(value)})")


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnicodeError(f"half a surrogate pair (\\u{ord(text[error.start]):04x})") from error


def brief(value: object) -> str:
    """A value for a message, 60 characters at most."""
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def place_of(number: int, line: int | None, source: str) -> str:
    """How a message names a row: "row 3 (line 4) of messages.csv"."""
    return f"row {number} of {source}" if line is None else f"row {number} (line {line}) of {source}"


def shown(names: Iterable[str]) -> str:
    """Column names for a message, each cut to 40 characters."""
    return one_of(name if len(name) <= 40 else name[:39] + "…" for name in names)


def checked_header(header: list[str], source: str) -> list[str]:
    """The header as it is.

    Raises:
        DataError: a name that occurs twice.
    """
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise DataError(f"{source} has more than one column named {shown(twice)}; give every column its own name")
    return header


# Opening ----------------------------------------------------------------------------------------------------------


@contextmanager
def open_table(
    path: str | Path, *, options: ReadOptions = DEFAULT, asked: Collection[str] = (), on_bad: OnBad | None = None
) -> Iterator[Table]:
    """Open a file as a table whose rows stream: memory does not grow with the file.

    With `on_bad` a row that cannot be read is told there and left out. A file that breaks off, or a quote that is never
    closed, ends the reading all the same: what follows it is lost.

    `asked` are the columns that the user named: a first line that has one of them is a header. A headerless
    `label<TAB>text` file gets the columns "label" and "text", and a note.

    Raises:
        DataError: the file cannot be opened or read as what its suffix says.
    """
    path, encoding = Path(path), options.encoding
    with _read_errors(path, encoding):
        _refuse_folder(path)
        path.stat()  # a missing file is named before its suffix is judged
    kind = _format(path)
    if kind == "parquet":
        with _open_parquet(path) as table:
            yield table
        return
    escaped = (
        on_bad is not None
    )  # bytes that cannot be decoded come through as lone surrogates, and spoil their row only
    with closing(read_lines(path, encoding, newline="" if kind == "csv" else "\n", escaped=escaped)) as lines:
        if kind == "json":
            yield _json_table(lines, path.name, on_bad)
        else:
            records = _csv_records(lines, path.name, escaped) if kind == "csv" else _tab_records(lines)
            yield _delimited_table(records, path.name, kind, asked, on_bad)


def _format(path: Path) -> str:
    inner = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    kind = FORMATS.get(inner.suffix.lower())
    if kind is None or (kind == "parquet" and inner != path):
        raise DataError(
            f"{path} is of a kind that is not read; use .csv, .tsv or .jsonl, perhaps with .gz, or .parquet"
        )
    return kind


def read_lines(path: Path, encoding: str, newline: str, escaped: bool = False) -> Generator[str, None, None]:
    """The lines with their ends; `newline` as for `open`. A byte order mark is dropped.

    `escaped`: bytes that cannot be decoded become lone surrogates (PEP 383).
    """
    name = codec_name(encoding)
    spelled = "utf-8-sig" if name == "utf-8" else name
    errors = "surrogateescape" if escaped else "strict"
    with (
        _read_errors(path, name),
        _open_bytes(path) as raw,
        io.TextIOWrapper(raw, spelled, errors, newline=newline) as text,
    ):
        yield from text


def codec_name(encoding: str) -> str:
    """Python's name of a text encoding.

    Raises:
        DataError: there is no such encoding.
    """
    try:
        io.TextIOWrapper(io.BytesIO(), encoding)  # refuses what codecs.lookup knows but is no text, such as "hex"
        return codecs.lookup(encoding).name.removesuffix("-sig")
    except (LookupError, ValueError) as error:
        raise DataError(
            f"--encoding is {encoding!r}, which is no encoding; use one such as utf-8, cp1252 or utf-16"
        ) from error


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(path)  # as POSIX does on reading; Windows says PermissionError


def _open_bytes(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """The file's bytes, unpacked when it ends in .gz."""
    _refuse_folder(path)
    return gzip.GzipFile(path) if path.suffix.lower() == ".gz" else path.open("rb")


@contextmanager
def _read_errors(path: Path, encoding: str) -> Iterator[None]:
    """Turn what can go wrong while a file is read into one sentence."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"there is no file {path}{_near_names(path)}") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder; name one file in it") from error
    except PermissionError as error:
        raise DataError(f"no permission to read {path}; change its mode or copy it") from error
    except UnicodeError as error:
        raise DataError(_undecodable(path, encoding)) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a broken gzip file ({error}); fetch or pack it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _near_names(path: Path) -> str:
    try:
        return nearest(path.name, sorted(entry.name for entry in path.parent.iterdir()))
    except OSError:
        return "; check the folder's name"


def _undecodable(path: Path, encoding: str) -> str:
    found = _first_bad_byte(path, encoding) if path.is_file() else None  # a pipe cannot be read twice
    if found is None:
        return f"{path.name} is not {encoding}; name its encoding with --encoding, such as --encoding cp1252"
    offset, value, start = found
    likely = "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "cp1252"
    unpacked = " after unpacking" if path.suffix.lower() == ".gz" else ""
    return (
        f"{path.name} is not {encoding}: byte 0x{value:02x} at byte offset {offset}{unpacked} cannot be decoded"
        f"; name its encoding with --encoding, such as --encoding {likely}"
    )


def _first_bad_byte(path: Path, encoding: str) -> tuple[int, int, bytes] | None:
    """Offset and value of the first byte that `encoding` refuses, and the first two bytes of the file."""
    decoder = codecs.getincrementaldecoder(encoding)()
    n_read, start, chunk = 0, b"", b"-"
    with _open_bytes(path) as raw:
        while chunk:
            chunk = raw.read(io.DEFAULT_BUFFER_SIZE)
            start = start or chunk[:2]
            n_waiting = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return n_read - n_waiting + error.start, error.object[error.start], start
            except UnicodeError:
                return None
            n_read += len(chunk)
    return None


# CSV and TSV ------------------------------------------------------------------------------------------------------

UNCLOSED = "end of data"  # what the csv module says of a quote without an end

Record = tuple[int, list[str] | str]  # the line a record starts on, and its fields, or why it has none


def _csv_records(lines: Iterator[str], source: str, tolerant: bool) -> Iterator[Record]:
    """Strict RFC 4180: a quote that is never closed would otherwise swallow the rest of the file unsaid."""
    csv.field_size_limit(FIELD_LIMIT_BYTES)
    reader = csv.reader(lines, strict=True)
    line, n_before = 1, 0
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            place = place_of(n_before, line, source) if n_before else f"the header (line {line}) of {source}"
            if not tolerant or not n_before or UNCLOSED in str(error):
                raise DataError(f"{place} {_csv_fault(str(error))}") from error
            yield line, _csv_fault(str(error))
            n_before += 1
            line = reader.line_num + 1
            continue
        if record is None:
            return
        if record:
            yield line, record
            n_before += 1
        line = reader.line_num + 1


def _csv_fault(reason: str) -> str:
    if UNCLOSED in reason:
        return 'opens a quote that is never closed; close it, or write quotes that are text twice ("")'
    if "expected after" in reason:
        return 'has text after a closing quote; write quotes inside a quoted field twice ("")'
    return f"is not CSV ({reason}); fix the row"


def _tab_records(lines: Iterator[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        content = line.removesuffix("\n").removesuffix("\r")
        if content:
            yield number, content.split("\t")


def _delimited_table(
    records: Iterator[Record], source: str, kind: str, asked: Collection[str], on_bad: OnBad | None
) -> Table:
    ahead = list(islice(records, HEADER_LOOK_AHEAD if kind == "tab" else 1))
    if not ahead:
        raise DataError(f"{source} is empty; it needs a line of column names and a row for each example")
    found = [fields for _, fields in ahead if isinstance(fields, list)]
    headerless = kind == "tab" and _starts_with_data(found, asked)
    header = ["label", "text"] if headerless else checked_header(found[0], source)
    ahead = ahead if headerless else ahead[1:]
    rest = chain(ahead, records)
    notes = (
        (f"{source} has no header: its two columns are read as label and text, quotes as text",) if headerless else ()
    )
    return Table(source, header, lambda _: _delimited_rows(rest, header, source, kind, on_bad), headerless, notes)


def _starts_with_data(records: list[list[str]], asked: Collection[str]) -> bool:
    """Is this `label<TAB>text` without a header? Then its first cell is a label, and comes again."""
    first = records[0]
    if len(first) != 2 or set(first) & set(asked) or first[1].strip().casefold() in TEXT_NAMES | LABEL_NAMES:
        return False
    pairs = [(fields[0], fields[1]) for fields in records if len(fields) == 2]
    recurs = sum(label == first[0] for label, _ in pairs) > 1
    return recurs and len({label for label, _ in pairs}) < len({text for _, text in pairs})


def _delimited_rows(
    records: Iterator[Record], header: list[str], source: str, kind: str, on_bad: OnBad | None
) -> Iterator[Row]:
    n_fields = len(header)
    for number, (line, fields) in enumerate(records, 1):
        if isinstance(fields, str):
            _refuse(BadRow(number, line, fields), source, on_bad)
        elif len(fields) != n_fields:
            fix = "quote fields that hold a comma" if kind == "csv" else "replace tabs inside a text by spaces"
            fault = (
                f"has {len(fields)} {'field' if len(fields) == 1 else 'fields'} where {n_fields} are expected; {fix},"
                " or fix the row"
            )
            _refuse(BadRow(number, line, fault), source, on_bad)
        else:
            yield Row(number, line, dict(zip(header, fields, strict=True)))


def _refuse(bad: BadRow, source: str, on_bad: OnBad | None) -> None:
    if on_bad is None:
        raise DataError(f"{place_of(bad.number, bad.line, source)} {bad.reason}")
    on_bad(bad)


# JSONL ------------------------------------------------------------------------------------------------------------


def _json_table(lines: Iterator[str], source: str, on_bad: OnBad | None) -> Table:
    rows = _json_rows(lines, source, on_bad)
    ahead = list(islice(rows, KEYS_LOOK_AHEAD))
    if not ahead:
        raise DataError(f"{source} is empty; it needs a JSON object for each example, one a line")
    header = list(dict.fromkeys(key for row in ahead for key in row.values))
    return Table(source, header, lambda _: chain(ahead, rows))


def _json_rows(lines: Iterator[str], source: str, on_bad: OnBad | None) -> Iterator[Row]:
    written = ((line, content) for line, content in enumerate(lines, 1) if content.strip())
    for number, (line, content) in enumerate(written, 1):
        try:
            value = json.loads(content.strip())
        except (ValueError, RecursionError) as error:
            reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            _refuse(BadRow(number, line, f"is not JSON ({reason}); write one object a line"), source, on_bad)
            continue
        if isinstance(value, dict):
            yield Row(number, line, value)
        else:
            fault = f"is {brief(value)}, which is no JSON object; write one object a line"
            _refuse(BadRow(number, line, fault), source, on_bad)


# Parquet ----------------------------------------------------------------------------------------------------------


@contextmanager
def _open_parquet(path: Path) -> Iterator[Table]:
    from pyarrow import parquet  # here, so that other formats need not load it

    with _read_errors(path, "utf-8"), _open_bytes(path) as handle:
        if not handle.read(1):
            raise DataError(f"{path.name} is empty; write it again")
    with _parquet_errors(path.name):
        file = parquet.ParquetFile(path)
    with file:
        header = checked_header(list(file.schema_arrow.names), path.name)
        yield Table(path.name, header, lambda columns: _parquet_rows(file, columns, path.name))


def _parquet_rows(file: Any, columns: Sequence[str], source: str) -> Iterator[Row]:
    number = 0
    with _parquet_errors(source):
        for batch in file.iter_batches(batch_size=8192, columns=list(columns)):
            lists = {name: _plain_values(batch.column(name)) for name in columns}
            for values in zip(*lists.values(), strict=True):
                number += 1
                yield Row(number, None, dict(zip(lists, values, strict=True)))


def _plain_values(column: Any) -> list[object]:
    import pyarrow

    if pyarrow.types.is_temporal(column.type):
        column = column.cast(pyarrow.string())  # nanoseconds would need pandas
    values: list[object] = column.to_pylist()
    return values


@contextmanager
def _parquet_errors(source: str) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise DataError(f"{source} cannot be read as Parquet ({reason}); write it again") from error
