"""JSON as rows: one object a line (jsonlines.org), an array of objects, or an object that holds one such list.

    {"text": "hi", "label": "ham"}      [{"text": "hi", …}, …]      {"version": 1, "data": [{"text": "hi", …}, …]}
    {"text": "yo", "label": "spam"}

Lines and arrays stream; an object is loaded as a whole, up to a size limit. Rows are written one object a line.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from lasttoken.core.documents import to_json
from lasttoken.core.errors import DataError, one_of
from lasttoken.data.tables.annotations import converted
from lasttoken.data.tables.cells import json_value
from lasttoken.data.tables.format import Format, ReadRequest
from lasttoken.data.tables.lines import LongLine, long_fault, read_pieces
from lasttoken.data.tables.options import ReadOptions
from lasttoken.data.tables.table import LABEL_NAMES, TEXT_NAMES, BadRow, OnBad, Row, Table, brief, report_bad
from lasttoken.data.tables.writing import Added, TextWriter, Values

KEYS_AHEAD = 100  # rows whose keys make the header, and which show the annotation tool that wrote them
MAX_DOCUMENT_CHARACTERS = 256_000_000  # in an object that is loaded as a whole
CHUNK = 1 << 16  # characters of an array that are read at a time
NEAR_END = 16  # characters; an error this close to the end of the buffer may only mean that the buffer ends too early
ARRAY = re.compile(r"\s*\[\s*(?=[\[{])")
BETWEEN = re.compile(r"[\s,]*")
OBJECT_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\[\s*)?\{\s*\"[^\"\n]*\"\s*:")  # perhaps in an array

Rows = Iterator[Row]


@dataclass(frozen=True)
class JsonFile:
    """A JSON file whose text is read in pieces, most of which are lines."""

    path: Path
    options: ReadOptions
    pieces: Callable[[], Iterator[str]]  # the text from the start; may be called once
    reread: Callable[[], Iterator[str]] | None  # the text from the start again; None for a pipe
    is_document: bool  # the file may be one JSON document over several lines


# Reading ----------------------------------------------------------------------------------------------------------


def read_json(request: ReadRequest) -> Table:
    """The table of a JSON document, or of JSON lines.

    Raises:
        DataError: a file without a row, or one that is not JSON.
    """
    return _read(request, is_document=True)


def read_json_lines(request: ReadRequest) -> Table:
    """The table of JSON lines; a file called .json may be a document all the same.

    Raises:
        DataError: a file without a row, or one that is not JSON.
    """
    return _read(request, is_document=request.path.name.lower().removesuffix(".gz").endswith(".json"))


def json_piece(request: ReadRequest, header: list[str]) -> Table:
    """The rows of a file that holds some lines of a file of JSON lines, whose keys are known."""
    pieces = request.closing(read_pieces(request.path, request.options, request.on_bad is not None))
    lines = whole_lines(pieces, request.options.max_row_bytes)
    return Table(request.source, header, lambda _: _line_rows(lines, request.source, request.options, request.on_bad))


def is_object_a_line(start: str) -> bool:
    """Whether a file that starts so holds a JSON object on each line: the first line is one, and there is a second."""
    lines = [line for line in start.lstrip("\ufeff").split("\n", 64) if line.strip()]
    return len(lines) > 1 and isinstance(_parsed(lines[0]), dict)


def _read(request: ReadRequest, is_document: bool) -> Table:
    escaped = request.on_bad is not None  # then only the rows with bytes that cannot be decoded are bad

    def pieces() -> Iterator[str]:
        return request.closing(read_pieces(request.path, request.options, escaped))

    file = JsonFile(request.path, request.options, pieces, pieces if request.can_reread else None, is_document)
    table = _json_table(file, request)
    rows = table.read(table.header)
    ahead = list(islice(rows, KEYS_AHEAD))
    table = replace(table, read=lambda _: chain(ahead, rows))
    return converted(table, ahead, request.asked, request.labelled)


def _json_table(file: JsonFile, request: ReadRequest) -> Table:
    """The rows unchanged; the header has the keys of the first rows, and of later rows if a wanted key is missing."""
    asked, labelled, every_key = request.asked, request.labelled, request.every_key
    source = file.path.name
    rows = _rows(file, file.pieces(), request.on_bad)
    ahead = list(islice(rows, KEYS_AHEAD))
    if not ahead:
        raise DataError(f"{source} is empty; it needs a JSON object for each example, one a line")
    header = list(dict.fromkeys(key for row in ahead for key in row.values))
    if file.reread is not None and len(ahead) == KEYS_AHEAD:
        wanted = _wanted(header, asked, labelled)
        if every_key or wanted:
            header = _all_keys(file, header, every_key, wanted)
    header = [name for name in header if name.isascii() or _writable(name)]
    return Table(source, header, lambda _: chain(ahead, rows))


def _writable(name: str) -> bool:
    """Whether a key can be written as UTF-8; it may contain a lone surrogate."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _wanted(header: list[str], asked: Collection[str], labelled: bool) -> list[Collection[str]]:
    """Sets of names of which the header has none and needs one each: a column that the user named, or a usual name."""
    if asked:
        return [{name} for name in asked if name not in header]
    names = {name.strip().casefold() for name in header}
    usual_names = [TEXT_NAMES, LABEL_NAMES] if labelled else [TEXT_NAMES]
    return [alternatives for alternatives in usual_names if not names & alternatives]


def _all_keys(file: JsonFile, header: list[str], every_key: bool, wanted: list[Collection[str]]) -> list[str]:
    """The header with the keys of later rows; reading stops at the row that has the last wanted key."""
    if file.reread is None:
        return header
    keys = dict.fromkeys(header)
    for row in _rows(file, file.reread(), lambda _: None):
        for key in row.values:
            if key not in keys:
                keys[key] = None
                wanted = [names for names in wanted if key not in names and key.strip().casefold() not in names]
        if not wanted and not every_key:
            break
    return list(keys)


def _rows(file: JsonFile, pieces: Iterator[str], on_bad: OnBad | None) -> Rows:
    """The rows, by what the file starts with: an array, an object of rows or columns, or an object on each line."""
    source, options = file.path.name, file.options
    ahead: list[str] = []  # blank pieces, and the first that is not blank
    for piece in pieces:
        ahead.append(piece)
        if piece.strip():
            break
    start = "".join(ahead)
    pieces = chain(ahead, pieces)
    if ARRAY.match(start) or (file.is_document and start.lstrip().startswith("[")):
        return _array_rows(pieces, source, options, on_bad)
    lines = whole_lines(pieces, options.max_row_bytes)
    if not start.lstrip().startswith("{"):
        return _line_rows(lines, source, options, on_bad)
    lines_ahead = list(islice(lines, len(ahead)))  # blank lines, and the first with an object
    first = lines_ahead[-1]
    content = None if isinstance(first, LongLine) else _parsed(first)
    if content is None and file.is_document:
        lines = chain(lines_ahead[:-1], [start if isinstance(first, LongLine) else first], lines)
        return _document_rows(lines, file, on_bad)
    second = next(lines, None)
    lines = chain(lines_ahead, [] if second is None else [second], lines)
    if second is None:
        values = _single_list(content) or (_rows_of_columns(content) if file.is_document else None)
        if values is None:
            _reject_no_row(content, source)
        else:
            return _numbered(values, source, on_bad)
    return _line_rows(lines, source, options, on_bad)


def whole_lines(pieces: Iterator[str], limit: int) -> Iterator[str]:
    """The lines that the pieces make up; a line of more than `limit` characters becomes a `LongLine`."""
    parts: list[str] = []  # of the current line, up to the limit
    size = 0
    for piece in pieces:
        ended = piece.endswith("\n")
        if ended and not parts and len(piece) <= limit:
            yield piece
            continue
        size += len(piece)
        if size <= limit or not parts:
            parts.append(piece)
        if ended:
            yield "".join(parts) if size <= limit else LongLine(parts[0][:60])
            parts, size = [], 0
    if parts:
        yield "".join(parts) if size <= limit else LongLine(parts[0][:60])


def _parsed(text: str) -> Any:
    """The JSON value of a text; None if the text is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _line_rows(lines: Iterator[str], source: str, options: ReadOptions, on_bad: OnBad | None) -> Rows:
    """The objects of JSON lines; blank lines are skipped."""
    not_blank = ((line, content) for line, content in enumerate(lines, 1) if content.strip())
    for number, (line, content) in enumerate(not_blank, 1):
        if isinstance(content, LongLine):
            report_bad(BadRow(number, line, long_fault(options)), source, on_bad)
            continue
        try:
            value = json.loads(content.strip())
        except (ValueError, RecursionError) as error:
            report_bad(BadRow(number, line, f"is not JSON ({_reason(error)}); write one object a line"), source, on_bad)
            continue
        if isinstance(value, dict):
            yield Row(number, line, value)
        else:
            fault = f"is {brief(value)} and not a JSON object; write one object a line"
            report_bad(BadRow(number, line, fault), source, on_bad)


def _reason(error: Exception) -> str:
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


# Arrays and objects -----------------------------------------------------------------------------------------------


def _array_rows(pieces: Iterator[str], source: str, options: ReadOptions, on_bad: OnBad | None) -> Rows:
    """The objects of an array, one at a time."""
    number = 0
    for number, (line, value) in enumerate(_values(pieces, source, options), 1):
        if isinstance(value, dict):
            yield Row(number, line, value)
        else:
            fault = long_fault(options) if isinstance(value, LongLine) else f"is {brief(value)} and not a JSON object"
            report_bad(BadRow(number, line, fault), source, on_bad)


def _values(pieces: Iterator[str], source: str, options: ReadOptions) -> Iterator[tuple[int, Any]]:
    """The values of an array, and the lines they begin on.

    Raises:
        DataError: invalid JSON, or a value beyond the limit.
    """
    decoder = json.JSONDecoder()
    buffer, position, line, number, ended = "", 0, 1, 0, False
    opened = False
    while True:
        skipped = BETWEEN.match(buffer, position)
        start = skipped.end() if skipped else position
        if not opened and start < len(buffer):
            opened, start = True, start + 1  # the bracket that opens the array
            line, position = line + buffer.count("\n", position, start), start
            continue
        if start < len(buffer) and buffer[start] == "]":
            return
        value_line = line + buffer.count("\n", position, start)
        try:
            value, end = decoder.raw_decode(buffer, start)
        except (ValueError, RecursionError) as error:
            if ended or not _cut_off(error, buffer):
                place = f"row {number + 1} (line {value_line}) of {source}"
                raise DataError(f"{place} is not JSON ({_reason(error)}); write the file again") from error
            if len(buffer) - start > options.max_row_bytes:
                place = f"row {number + 1} (line {value_line}) of {source}"
                raise DataError(f"{place} {long_fault(options)}") from error
            chunk, ended = _chunk(pieces, max(CHUNK, len(buffer) - start))
            buffer, position, line = buffer[start:] + chunk, 0, value_line
            continue
        number += 1
        yield value_line, (value if end - start <= options.max_row_bytes else LongLine(buffer[start : start + 60]))
        line, position = value_line + buffer.count("\n", start, end), end


def _cut_off(error: Exception, buffer: str) -> bool:
    """Whether the value may be valid and only be cut off at the end of the buffer."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= len(buffer) - NEAR_END


def _chunk(pieces: Iterator[str], size: int) -> tuple[str, bool]:
    """At least `size` characters, and whether the text ends after them."""
    taken: list[str] = []
    n = 0
    for piece in pieces:
        taken.append(piece)
        n += len(piece)
        if n >= size:
            return "".join(taken), False
    return "".join(taken), True


def _document_rows(lines: Iterator[str], file: JsonFile, on_bad: OnBad | None) -> Rows:
    """The rows of an object over several lines: its only list of objects, its columns, or one object after another."""
    source, limit = file.path.name, MAX_DOCUMENT_CHARACTERS
    text = io.StringIO()
    for line in lines:
        text.write(line)
        if text.tell() > limit or isinstance(line, LongLine):
            raise DataError(
                f"{source} is one JSON object of more than {limit:,} bytes, or has a line beyond --max-row-bytes; "
                "write its rows one object a line, as .jsonl"
            )
    whole = text.getvalue()
    try:
        content = json.loads(whole)
    except (ValueError, RecursionError) as error:
        if objects := _one_after_another(whole):
            return _numbered(objects, source, on_bad)
        last = whole.strip().splitlines()[-1]
        if "Extra data" in str(error) or last.startswith("{"):
            return _line_rows(iter(whole.splitlines(keepends=True)), source, file.options, on_bad)
        raise DataError(
            f"row 1 (line {getattr(error, 'lineno', 1)}) of {source} is not JSON ({_reason(error)}); fix the file"
        ) from error
    values = _single_list(content) or _rows_of_columns(content)
    if values is None:
        _reject_no_row(content, source)
    return _numbered([content] if values is None else values, source, on_bad)


def _one_after_another(text: str) -> list[Any]:
    """Objects one after another, as jq prints them; an empty list if any part of the text is not JSON."""
    decoder, objects, position = json.JSONDecoder(), [], 0
    while position < len(text.rstrip()):
        start = re.compile(r"\s*").match(text, position)
        try:
            value, position = decoder.raw_decode(text, start.end() if start else position)
        except (ValueError, RecursionError):
            return []
        objects.append(value)
    return objects


def _single_list(content: Any) -> list[Any] | None:
    """The list of objects in an object that has exactly one such list and is not a row itself."""
    if not isinstance(content, dict) or {str(key).strip().casefold() for key in content} & TEXT_NAMES:
        return None
    lists = [value for value in content.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    is_task = {"annotations", "data"} <= set(content) and isinstance(content["data"], dict)  # of Label Studio
    return lists[0] if len(lists) == 1 and not is_task else None


def _reject_no_row(content: Any, source: str) -> None:
    """Reject an object that is not a row: it has only lists and objects, none of which is the list of rows.

    Raises:
        DataError: names its keys.
    """
    if not isinstance(content, dict) or {str(key).strip().casefold() for key in content} & (TEXT_NAMES | LABEL_NAMES):
        return
    if (
        len(content)
        and all(isinstance(value, list | dict) for value in content.values())
        and "annotations" not in content
    ):
        raise DataError(
            f"{source} is one JSON object, and it is not obvious which part of it holds the rows: it has "
            f"{one_of(map(str, content))}; write the rows of each split as a file of their own, one object a line"
        )


def _rows_of_columns(content: Any) -> list[dict[str, Any]] | None:
    """The rows of an object of columns, {"text": {"0": "hi", …}, …} as pandas writes a frame, or of lists."""
    if not isinstance(content, dict) or not content:
        return None
    columns = list(content.values())
    if _are_rows(content):
        return columns
    has_text = len(columns) > 1 or {str(name).strip().casefold() for name in content} & TEXT_NAMES
    if has_text and all(isinstance(column, dict) and column.keys() == columns[0].keys() for column in columns):
        return [{name: column[key] for name, column in content.items()} for key in columns[0]]
    if {"columns", "data"} <= content.keys() and isinstance(content["data"], list):
        return [dict(zip(content["columns"], row, strict=False)) for row in content["data"]]
    if len(columns) > 1 and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return [dict(zip(content, row, strict=True)) for row in zip(*columns, strict=True)]
    return None


def _are_rows(content: dict[str, Any]) -> bool:
    """Whether an object holds rows by their ids, {"id7": {"text": "hi", …}, …}."""
    if {str(key).strip().casefold() for key in content} & TEXT_NAMES:
        return False
    rows = content.values()
    return all(isinstance(row, dict) and {str(key).strip().casefold() for key in row} & TEXT_NAMES for row in rows)


def _numbered(values: list[Any], source: str, on_bad: OnBad | None) -> Rows:
    """Values as rows numbered from 1; their lines are not known."""
    for number, value in enumerate(values, 1):
        if isinstance(value, dict):
            yield Row(number, None, value)
        else:
            report_bad(BadRow(number, None, f"is {brief(value)} and not a JSON object"), source, on_bad)


# Writing ----------------------------------------------------------------------------------------------------------


class JsonLinesWriter(TextWriter):
    """Writes one JSON object a line."""

    format_name = "jsonl"

    def body(self, rows: Sequence[Values], added: Added) -> str:
        """N rows as lines; `added` has N values for each added column."""
        names = [column.name for column in self.layout.added]
        lines = []
        for row, *values in zip(rows, *added, strict=True):
            copied = row if self.layout.every_key else {name: row.get(name) for name in self.layout.kept}
            line = {**copied, **dict(zip(names, values, strict=True))}
            lines.append(to_json(line, default=json_value) + "\n")
        return "".join(lines)


def is_json(start: bytes) -> bool:
    """Whether the first bytes of a file are those of a JSON object, perhaps in an array."""
    return OBJECT_START.match(start) is not None


JSON_LINES = Format(
    name="jsonl", title="JSON", read=read_json_lines, suffixes=(".jsonl", ".ndjson"), writer=JsonLinesWriter
)
JSON = Format(name="json", title="JSON", read=read_json, suffixes=(".json",), claims=is_json)
