"""Which separator and quotes a text table uses, determined from its first lines.

    text;label           ──► separator ";"
    "a; b";spam

A file that can be read as its suffix says is read that way. Another dialect needs a clear reason, which becomes a note.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from lasttoken.data.tables.options import ReadOptions
from lasttoken.data.tables.table import LABEL_NAMES, TEXT_NAMES

SEPARATORS = (",", ";", "\t", "|")
UNCLOSED = "end of data"  # in the csv module's message about a quote that is never closed
ENOUGH = 0.9  # fraction of the rows that must have as many fields as a header that contains the separator
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n?')  # a first line that Excel writes
FIELD = re.compile(r'"[^"]*(?:""[^"]*)*"|[^\t"\r\n]*')


@dataclass(frozen=True)
class Dialect:
    """How the lines of a text table are read; `notes` says what differs from what the suffix implies."""

    separator: str
    quotes: bool  # fields may be quoted, as in CSV; otherwise every quote is text
    skip_space: bool = False  # spaces after a separator are not part of the field
    n_before: int = 0  # lines before the header
    notes: tuple[str, ...] = ()


def separator_name(separator: str) -> str:
    """A separator as a message shows it.

    >>> separator_name(";"), separator_name("\\t")
    ("';'", 'a tab')
    """
    return "a tab" if separator == "\t" else repr(separator)


def find_dialect(
    ahead: Sequence[str], tabbed: bool, options: ReadOptions, asked: Collection[str], whole: bool
) -> Dialect:
    """The dialect of a file by its first lines; `tabbed`: its suffix implies tabs. `whole`: there are no more lines."""
    usual = "\t" if tabbed else ","
    if options.separator:
        return _spaced(Dialect(options.separator, options.separator != "\t"), ahead, whole)
    first = SEPARATOR_LINE.fullmatch(ahead[0]) if ahead else None
    if first:
        note = (f"its first line says that its fields are separated by {separator_name(first[1])}",)
        return Dialect(first[1], first[1] != "\t", n_before=1, notes=note if first[1] != usual else ())
    separator = _separator(ahead, tabbed, asked, whole)
    note = (f"its fields are separated by {separator_name(separator)} (--separator names another)",)
    dialect = Dialect(separator, separator != "\t", notes=note if separator != usual else ())
    return _spaced(dialect, ahead, whole)


def _separator(ahead: Sequence[str], tabbed: bool, asked: Collection[str], whole: bool) -> str:
    usual = "\t" if tabbed else ","
    plain = sample(ahead, usual, whole)
    header = plain[0] if plain else next((line.rstrip("\r\n").split(usual) for line in ahead if line.strip()), [""])
    if _width(plain) > 1 or (len(header) == 1 and header[0] in asked):
        return usual
    if tabbed and len(header) > 1:
        return usual
    for separator in SEPARATORS:
        records = sample(ahead, separator, whole)
        if separator == "\t" and _width(records) < 2:
            records = sample(ahead, separator, whole, quotes=True)
        if separator == usual or not records or (len(header) > 1 and _width(records) < 2):
            continue
        names = [name.strip().casefold() for name in records[0]]
        n_matching = sum(len(record) == len(names) for record in records)
        if len(names) < 2 or n_matching < ENOUGH * len(records) or len(set(names)) < len(names):
            continue
        if not tabbed or (TEXT_NAMES | LABEL_NAMES | {name.casefold() for name in asked}) & set(names):
            return separator
    return usual


def sample(
    lines: Sequence[str], separator: str, whole: bool, *, skip_space: bool = False, quotes: bool = False
) -> list[list[str]]:
    """The records of the first lines, none if this is not their separator; tabs are read without quotes by default.

    A last record that continues after these lines is left out unless they are the `whole` file.
    """
    if separator == "\t" and not quotes:
        return [line.rstrip("\r\n").split("\t") for line in lines if line.rstrip("\r\n")]
    records: list[list[str]] = []
    try:
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=skip_space, strict=True)
        records.extend(record for record in reader if record)
    except csv.Error as error:
        if whole or UNCLOSED not in str(error):
            return []
    return records


def _width(records: Sequence[Sequence[str]]) -> int:
    """The number of fields that all records have; 0 where they differ."""
    widths = {len(record) for record in records}
    return widths.pop() if len(widths) == 1 else 0


def _spaced(dialect: Dialect, ahead: Sequence[str], whole: bool) -> Dialect:
    """Skip spaces before quotes where only that gives all rows the same number of fields, or a column is all quoted."""
    separator = dialect.separator
    if not dialect.quotes or not any(f'{separator} "' in line for line in ahead):
        return dialect
    plain, spaced = sample(ahead, separator, whole), sample(ahead, separator, whole, skip_space=True)
    if _width(spaced) < 2:
        return dialect
    quoted = [[cell.startswith(' "') and cell.endswith('"') for cell in record] for record in plain[1:]]
    if _width(plain) > 1 and not any(all(column) for column in zip(*quoted, strict=True)):
        return dialect
    note = f"spaces after {separator_name(separator)} are not part of the fields"
    return replace(dialect, skip_space=True, notes=(*dialect.notes, note))


def has_written_quotes(lines: Iterable[str], limit: int) -> bool:
    """Whether the whole of a tab-separated file uses quotes as spreadsheets and pandas write them.

    Then each quoted field ends with a quote and doubles the quotes inside, other fields have none, and a field is
    quoted for a reason: it contains a tab, a line end or a quote (pandas); or one of these or a comma, and all fields
    with a comma are quoted (Excel); or all fields of its column are quoted. In a file whose texts merely begin with a
    quote, some row breaks these rules.
    """
    reasons = _Reasons()
    record, n_fields = "", 0
    for line in lines:
        record += line
        if len(record) > limit:
            return False
        if record.count('"') % 2:
            continue
        content, record = record.rstrip("\r\n"), ""
        if not content:
            continue
        fields = _raw_fields(content)
        n_fields = n_fields or len(fields)
        if not fields or len(fields) != n_fields or not reasons.hold(fields):
            return False
    return not record and reasons.any_quoted


def _raw_fields(content: str) -> list[str]:
    """The fields with their quotes; none where a quote stands in the middle of a field."""
    if '"' not in content:
        return [] if "\r" in content else content.split("\t")
    fields, start = [], 0
    while match := FIELD.match(content, start):
        fields.append(match[0])
        if match.end() == len(content):
            return fields
        if content[match.end()] != "\t":
            return []
        start = match.end() + 1
    return []


class _Reasons:
    """Which of the usual reasons for quotes hold for all fields so far."""

    def __init__(self) -> None:
        self.any_quoted = False
        self._minimal = self._excel = True
        self._columns: list[set[bool]] = []
        self._header = True

    def hold(self, fields: Sequence[str]) -> bool:
        """Take the next record; return whether a reason still holds."""
        for column, raw in enumerate(fields):
            quoted, inside = raw.startswith('"'), raw[1:-1]
            self.any_quoted |= quoted
            needed = quoted and any(character in inside for character in '\t\n\r"')
            self._minimal &= needed or not quoted
            self._excel &= needed or any(character in inside for character in ",;") if quoted else "," not in raw
            if not self._header and raw:
                while len(self._columns) <= column:
                    self._columns.append(set())
                self._columns[column].add(quoted)
        self._header = False
        return self._minimal or self._excel or all(len(kinds) < 2 for kinds in self._columns)
