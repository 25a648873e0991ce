"""Values of a table as text: fields and lines of CSV and tab-separated files, and what JSON has no form for."""

from __future__ import annotations

import base64
import datetime
import re
from collections.abc import Iterable, Sequence

from lasttoken.core.documents import to_json
from lasttoken.data.tables.table import as_string, duration_text

NEEDS_QUOTES = re.compile(r'[",\r\n]')  # compiled: re.search with a pattern string took a third of the writing time
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet may run a cell that starts with one of these
NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?")


def csv_line(cells: Iterable[str]) -> str:
    """A line of a CSV file, with its line end.

    >>> csv_line(["a", "b, c"])
    'a,"b, c"\\n'
    """
    return ",".join(map(quoted, cells)) + "\n"


def quoted(text: str) -> str:
    """A CSV field, in quotes where it needs them. (csv.writer leaves a lone \\r unquoted, which cannot be read back.)

    >>> print(quoted('5" nails'), quoted("a, b"), quoted("hi"))
    "5"" nails" "a, b" hi
    """
    return '"' + text.replace('"', '""') + '"' if NEEDS_QUOTES.search(text) else text


def tab_line(cells: Sequence[str]) -> str:
    """A line of tab-separated fields, which have no quotes: tabs and line ends in a field become spaces."""
    return "\t".join(cell.replace("\t", " ").replace("\r", " ").replace("\n", " ") for cell in cells) + "\n"


def cell_of(value: object) -> str:
    """A value as a field of a text file: lists and objects as JSON, None as "".

    >>> cell_of(None), cell_of(1.5), cell_of(["a"])
    ('', '1.5', '["a"]')
    """
    if isinstance(value, list | dict | tuple):
        return to_json(value, default=json_value)
    return json_value(value) if isinstance(value, bytes) else as_string(value) or ""


def spreadsheet_safe(cell: str) -> str:
    """The field with a single quote in front where a spreadsheet would run it as a formula; numbers stay numbers.

    >>> spreadsheet_safe("=1+1"), spreadsheet_safe("-5"), spreadsheet_safe("fine")
    ("'=1+1", '-5', 'fine')
    """
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) and not NUMBER.fullmatch(cell) else cell


def json_value(value: object) -> str:
    """A value that JSON has no form for, as a string: bytes in base64, anything else as text.

    >>> json_value(b"\\x89PNG"), json_value(datetime.timedelta(seconds=90))
    ('iVBORw==', 'PT90S')
    """
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return duration_text(value) if isinstance(value, datetime.timedelta) else str(value)
