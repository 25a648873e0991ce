"""Where a file can be cut into pieces between its rows, and how a piece is read.

    in.csv      0 ─ header ─ 28 ─ 4,096 records ─ 402,113 ─ 4,096 records ─ …  found in one pass by the csv reader
    in.jsonl    0 ─────────── 400,000 ─────────── 800,000 ─ …                 a piece owns the lines that start in it
    in.parquet  row 0 ─────── row 4,096 ───────── row 8,192 ─ …                   at row groups where they are small
    in.json.gz  whole

A quoted field may hold line ends, so where a record ends is known only to who has read the file from its start.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

from lasttoken.data.tables.delimited import delimited_piece, piece_records
from lasttoken.data.tables.dialect import Dialect
from lasttoken.data.tables.encodings import codec_name
from lasttoken.data.tables.format import ReadRequest
from lasttoken.data.tables.json_rows import json_piece
from lasttoken.data.tables.lines import LongLine, read_lines
from lasttoken.data.tables.options import ReadOptions
from lasttoken.data.tables.table import Table
from lasttoken.data.tables.text_lines import read_text_lines

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SINGLE_BYTES = bytes(range(256))
GROUPS_KEPT_WHOLE = 16  # a row group of up to so many pieces is not cut: a piece of it is read with all that is before


def is_cuttable(encoding: str) -> bool:
    """Whether the bytes of a text can be counted from its characters, and a line end is one byte.

    >>> is_cuttable("utf-8"), is_cuttable("cp1252"), is_cuttable("utf-16")
    (True, True, False)
    """
    name = codec_name(encoding)
    if name in ("utf-8", "ascii"):
        return True
    try:
        return SINGLE_BYTES.decode(name, "surrogateescape").encode(name, "surrogateescape") == SINGLE_BYTES
    except (UnicodeError, LookupError):
        return False


class _CountedLines:
    """The lines of a file, and the byte at which the next one begins."""

    def __init__(self, path: Path, options: ReadOptions, newline: str) -> None:
        self._lines = read_lines(path, options, newline, escaped=True)
        self._codec = codec_name(options.encoding)
        with path.open("rb") as file:
            has_mark = self._codec == "utf-8" and file.read(3) == BYTE_ORDER_MARK
        self.position = len(BYTE_ORDER_MARK) if has_mark else 0
        self.is_exact = True  # a line beyond the limit was skipped: nobody counted it

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.is_exact &= not isinstance(line, LongLine)
            self.position += len(line) if line.isascii() else len(line.encode(self._codec, "surrogateescape"))
            yield line


def record_cuts(request: ReadRequest, dialect: Dialect, has_header: bool, newline: str, every: int) -> array[int]:
    """The bytes at which every so many records of a delimited file begin, the first record's first, then its size.

    Blank lines belong to the piece before them.

    Raises:
        DataError: the file cannot be read, or has a quote that is never closed.
    """
    counted = _CountedLines(request.path, request.options, newline)
    lines = iter(counted)
    for _ in range(dialect.n_before):
        next(lines, None)
    records = piece_records(lines, request, dialect)
    while has_header and isinstance(next(records, (0, []))[1], str):
        pass
    cuts = array("q", [counted.position])
    size = request.path.stat().st_size
    for number, _ in enumerate(records, 1):
        if not counted.is_exact:
            break
        if number % every == 0 and counted.position < size:
            cuts.append(counted.position)
    cuts.append(size)
    return cuts


def row_cuts(groups: list[int], every: int) -> array[int]:
    """The rows at which the pieces of a Parquet file begin, then its number of rows; `groups`: the rows of each group.

    >>> list(row_cuts([3, 3, 3], 6)), list(row_cuts([100], 6)), list(row_cuts([], 6))
    ([0, 6, 9], [0, 6, 12, 18, 24, 30, 36, 42, 48, 54, 60, 66, 72, 78, 84, 90, 96, 100], [0])
    """
    cuts, total = array("q", [0]), 0
    for n_rows in groups:
        if n_rows > GROUPS_KEPT_WHOLE * every:
            if total > cuts[-1]:
                cuts.append(total)
            cuts.extend(range(total + every, total + n_rows, every))
        total += n_rows
        if total - cuts[-1] >= every:
            cuts.append(total)
    if total > cuts[-1]:
        cuts.append(total)
    return cuts


def read_piece(request: ReadRequest, file_format: str, header: list[str], dialect: Dialect | None) -> Table:
    """The rows of a file that holds one piece of a larger one, which is of this format and has this header."""
    if dialect is not None:
        return delimited_piece(request, dialect, header, newline_of(file_format))
    return json_piece(request, header) if file_format == "jsonl" else read_text_lines(request)


def newline_of(file_format: str) -> str:
    """How lines of a delimited file end, as `open` takes it: in CSV also with a carriage return alone."""
    return "" if file_format == "csv" else "\n"
