"""JSON as rows: one object a line (jsonlines.org), an array of objects, or an object that holds one such list.

    {"text": "hi", "label": "ham"}      [{"text": "hi", …}, …]      {"version": 1, "data": [{"text": "hi", …}, …]}
    {"text": "yo", "label": "spam"}

Lines and arrays stream. An object is loaded, up to a bound.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from lasttoken.core.errors import DataError, one_of
from lasttoken.data.lines import LongLine, long_fault
from lasttoken.data.options import ReadOptions
from lasttoken.data.tables import LABEL_NAMES, TEXT_NAMES, BadRow, OnBad, Row, Table, brief, refuse

KEYS_AHEAD = 100  # rows whose keys make the header
MOST_BYTES = 256_000_000  # of an object that is loaded as a whole
CHUNK = 1 << 16  # characters of an array that are read at a time
NEAR_END = 16  # characters: what fails to parse this close to the end of what was read may only be cut off
ARRAY = re.compile(r"\s*\[\s*(?=[\[{])")
BETWEEN = re.compile(r"[\s,]*")

Rows = Iterator[Row]


@dataclass(frozen=True)
class JsonFile:
    """A JSON file that is read: its text in pieces, none across a line's end, and again (None: a pipe)."""

    path: Path
    options: ReadOptions
    pieces: Callable[[], Iterator[str]]
    again: Callable[[], Iterator[str]] | None

    @property
    def is_json(self) -> bool:
        """Is it .json, which may be one document over several lines?"""
        return self.path.name.lower().removesuffix(".gz").endswith(".json") or self.options.format == "json"


def json_table(
    file: JsonFile, asked: Collection[str], on_bad: OnBad | None, *, labelled: bool, every_key: bool
) -> Table:
    """The rows of a JSON file. The header is the keys of the first rows, and of all where a key is missing there.

    Raises:
        DataError: a file without a row, or one that is not JSON.
    """
    source = file.path.name
    rows = _rows(file, file.pieces(), on_bad)
    ahead = list(islice(rows, KEYS_AHEAD))
    if not ahead:
        raise DataError(f"{source} is empty; it needs a JSON object for each example, one a line")
    header = list(dict.fromkeys(key for row in ahead for key in row.values))
    if file.again is not None and len(ahead) == KEYS_AHEAD:
        wanted = _wanted(header, asked, labelled)
        if every_key or wanted:
            header = _all_keys(file, header, every_key, wanted)
    header = [name for name in header if name.isascii() or _writable(name)]
    return Table(source, header, lambda _: chain(ahead, rows))


def _writable(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _wanted(header: list[str], asked: Collection[str], labelled: bool) -> list[Collection[str]]:
    """Sets of names of which one is still to be found: those asked for, else a usual one."""
    names = {name.strip().casefold() for name in header}
    if asked:
        return [{name} for name in asked if name not in header]
    usual = [TEXT_NAMES, LABEL_NAMES] if labelled else [TEXT_NAMES]
    return [known for known in usual if not names & known]


def _all_keys(file: JsonFile, header: list[str], every_key: bool, wanted: list[Collection[str]]) -> list[str]:
    """The header with the keys of later rows, up to the last one that is wanted."""
    if file.again is None:
        return header
    keys = dict.fromkeys(header)
    for row in _rows(file, file.again(), lambda _: None):
        for key in row.values:
            if key not in keys:
                keys[key] = None
                wanted = [names for names in wanted if key not in names and key.strip().casefold() not in names]
        if not wanted and not every_key:
            break
    return list(keys)


def _rows(file: JsonFile, pieces: Iterator[str], on_bad: OnBad | None) -> Rows:
    source, options = file.path.name, file.options
    ahead: list[str] = []
    for piece in pieces:
        ahead.append(piece)
        if piece.strip():
            break
    start = "".join(ahead)
    pieces = chain(ahead, pieces)
    if ARRAY.match(start) or (file.is_json and start.lstrip().startswith("[")):
        return _array_rows(pieces, source, options, on_bad)
    lines = whole_lines(pieces, options.max_row_bytes)
    if not start.lstrip().startswith("{"):
        return _line_rows(lines, source, options, on_bad)
    before = list(islice(lines, len(ahead)))  # blank ones, and the first with an object
    first = before[-1]
    content = None if isinstance(first, LongLine) else _parsed(first)
    if content is None and file.is_json:
        again = chain(before[:-1], [start if isinstance(first, LongLine) else first], lines)
        return _document_rows(again, file, on_bad)
    second = next(lines, None)
    lines = chain(before, [] if second is None else [second], lines)
    if second is None:
        inner = _single_list(content) or (_columns(content) if file.is_json else None)
        if inner is None:
            _refuse_no_row(content, source)
        else:
            return _numbered(inner, source, on_bad)
    return _line_rows(lines, source, options, on_bad)


def whole_lines(pieces: Iterator[str], limit: int) -> Iterator[str]:
    """The lines that pieces make; one of more than `limit` characters as a `LongLine`."""
    kept: list[str] = []
    size = 0
    for piece in pieces:
        ended = piece.endswith("\n")
        if ended and not kept and len(piece) <= limit:
            yield piece
            continue
        size += len(piece)
        if size <= limit or not kept:
            kept.append(piece)
        if ended:
            yield "".join(kept) if size <= limit else LongLine(kept[0][:60])
            kept, size = [], 0
    if kept:
        yield "".join(kept) if size <= limit else LongLine(kept[0][:60])


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _line_rows(lines: Iterator[str], source: str, options: ReadOptions, on_bad: OnBad | None) -> Rows:
    written = ((line, content) for line, content in enumerate(lines, 1) if content.strip())
    for number, (line, content) in enumerate(written, 1):
        if isinstance(content, LongLine):
            refuse(BadRow(number, line, long_fault(options)), source, on_bad)
            continue
        try:
            value = json.loads(content.strip())
        except (ValueError, RecursionError) as error:
            refuse(BadRow(number, line, f"is not JSON ({_reason(error)}); write one object a line"), source, on_bad)
            continue
        if isinstance(value, dict):
            yield Row(number, line, value)
        else:
            fault = f"is {brief(value)} and not a JSON object; write one object a line"
            refuse(BadRow(number, line, fault), source, on_bad)


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
            refuse(BadRow(number, line, fault), source, on_bad)


def _values(pieces: Iterator[str], source: str, options: ReadOptions) -> Iterator[tuple[int, Any]]:
    """The values of an array, or of an array's inside, and the lines they begin on.

    Raises:
        DataError: something that is not JSON, or a value beyond the bound.
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
            more, ended = _chunk(pieces, max(CHUNK, len(buffer) - start))
            buffer, position, line = buffer[start:] + more, 0, value_line
            continue
        number += 1
        yield value_line, (value if end - start <= options.max_row_bytes else LongLine(buffer[start : start + 60]))
        line, position = value_line + buffer.count("\n", start, end), end


def _cut_off(error: Exception, buffer: str) -> bool:
    """May the value only be cut off where the buffer ends?"""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= len(buffer) - NEAR_END


def _chunk(pieces: Iterator[str], size: int) -> tuple[str, bool]:
    """At least `size` characters, and whether the text ends with them."""
    found: list[str] = []
    n = 0
    for piece in pieces:
        found.append(piece)
        n += len(piece)
        if n >= size:
            return "".join(found), False
    return "".join(found), True


def _document_rows(lines: Iterator[str], file: JsonFile, on_bad: OnBad | None) -> Rows:
    """The rows of an object over several lines: its one list of objects, columns, or several objects."""
    source, limit = file.path.name, MOST_BYTES
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
    inner = _single_list(content) or _columns(content)
    if inner is None:
        _refuse_no_row(content, source)
    return _numbered([content] if inner is None else inner, source, on_bad)


def _one_after_another(text: str) -> list[Any]:
    """Objects with nothing between them, as jq prints them; none where something is not JSON."""
    decoder, found, position = json.JSONDecoder(), [], 0
    while position < len(text.rstrip()):
        start = re.compile(r"\s*").match(text, position)
        try:
            value, position = decoder.raw_decode(text, start.end() if start else position)
        except (ValueError, RecursionError):
            return []
        found.append(value)
    return found


def _single_list(content: Any) -> list[Any] | None:
    """The list of objects in an object that has just one, and is not a row itself."""
    if not isinstance(content, dict) or {str(key).strip().casefold() for key in content} & TEXT_NAMES:
        return None
    lists = [value for value in content.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    own = {"annotations", "data"} <= set(content) and isinstance(content["data"], dict)  # a task of Label Studio
    return lists[0] if len(lists) == 1 and not own else None


def _refuse_no_row(content: Any, source: str) -> None:
    """Refuse an object that is no row: it holds nothing but lists and objects, of which none is the list of rows.

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


def _columns(content: Any) -> list[dict[str, Any]] | None:
    """The rows of an object of columns, as pandas writes a frame: {"text": {"0": "hi", …}, …}, or lists."""
    if not isinstance(content, dict) or not content:
        return None
    columns = list(content.values())
    if _are_rows(content):
        return columns
    named = len(columns) > 1 or {str(name).strip().casefold() for name in content} & TEXT_NAMES
    if named and all(isinstance(column, dict) and column.keys() == columns[0].keys() for column in columns):
        return [{name: column[key] for name, column in content.items()} for key in columns[0]]
    if {"columns", "data"} <= content.keys() and isinstance(content["data"], list):
        return [dict(zip(content["columns"], row, strict=False)) for row in content["data"]]
    if len(columns) > 1 and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return [dict(zip(content, row, strict=True)) for row in zip(*columns, strict=True)]
    return None


def _are_rows(content: dict[str, Any]) -> bool:
    """Is this an object of rows by their ids, {"id7": {"text": "hi", …}, …}?"""
    if {str(key).strip().casefold() for key in content} & TEXT_NAMES:
        return False
    rows = content.values()
    return all(isinstance(row, dict) and {str(key).strip().casefold() for key in row} & TEXT_NAMES for row in rows)


def _numbered(values: list[Any], source: str, on_bad: OnBad | None) -> Rows:
    for number, value in enumerate(values, 1):
        if isinstance(value, dict):
            yield Row(number, None, value)
        else:
            refuse(BadRow(number, None, f"is {brief(value)} and not a JSON object"), source, on_bad)
