"""Which separator, quotes and header a text table uses, by its first lines.

    text;label           ──► separator ";"
    "a; b";spam

A file that its suffix reads well is never read in another way: what is looked for here is a reason to leave the
usual way, and each such reason becomes a note.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from lasttoken.core.errors import DataError
from lasttoken.data.options import ReadOptions
from lasttoken.data.tables import LABEL_NAMES, TEXT_NAMES, checked_header, shown

SEPARATORS = (",", ";", "\t", "|")
UNCLOSED = "end of data"  # what the csv module says of a quote without an end
ENOUGH = 0.9  # of the rows must have as many fields as the header, where the header itself shows the separator
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n?')  # Excel's own first line
FIELD = re.compile(r'"[^"]*(?:""[^"]*)*"|[^\t"\r\n]*')


@dataclass(frozen=True)
class Dialect:
    """How the lines of a text table are read; `notes` says what differs from what the suffix says."""

    separator: str
    quotes: bool  # CSV's; without them every quote is text
    skip_space: bool = False  # spaces after a separator are not part of the field
    n_before: int = 0  # lines before the header
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Header:
    """The names of the columns; `from_file`: they are the first line."""

    names: list[str]
    from_file: bool
    notes: tuple[str, ...] = ()


def named(separator: str) -> str:
    """A separator as a message shows it.

    >>> named(";"), named("\\t")
    ("';'", 'a tab')
    """
    return "a tab" if separator == "\t" else repr(separator)


def find_dialect(
    ahead: Sequence[str], tabbed: bool, options: ReadOptions, asked: Collection[str], whole: bool
) -> Dialect:
    """The dialect of a file by its first lines; `tabbed`: its suffix says tabs. `whole`: these are all its lines."""
    usual = "\t" if tabbed else ","
    if options.separator:
        return _spaced(Dialect(options.separator, options.separator != "\t"), ahead, whole)
    first = SEPARATOR_LINE.fullmatch(ahead[0]) if ahead else None
    if first:
        note = (f"its first line says that its fields are separated by {named(first[1])}",)
        return Dialect(first[1], first[1] != "\t", n_before=1, notes=note if first[1] != usual else ())
    separator = _separator(ahead, tabbed, asked, whole)
    note = (f"its fields are separated by {named(separator)} (--separator names another)",)
    found = Dialect(separator, separator != "\t", notes=note if separator != usual else ())
    return _spaced(found, ahead, whole)


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
        alike = sum(len(record) == len(names) for record in records)
        if len(names) < 2 or alike < ENOUGH * len(records) or len(set(names)) < len(names):
            continue
        if not tabbed or (TEXT_NAMES | LABEL_NAMES | {name.casefold() for name in asked}) & set(names):
            return separator
    return usual


def sample(
    lines: Sequence[str], separator: str, whole: bool, *, skip_space: bool = False, quotes: bool = False
) -> list[list[str]]:
    """The records of the first lines, or none if they are not of this separator; tabs without quotes unless asked.

    A last record that goes on behind the lines is left out unless these are the `whole` file.
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
    """How many fields all records have; 0 where they differ."""
    widths = {len(record) for record in records}
    return widths.pop() if len(widths) == 1 else 0


def _spaced(dialect: Dialect, ahead: Sequence[str], whole: bool) -> Dialect:
    """Heed quotes behind a space where only that gives all rows as many fields, or a column has them all through."""
    separator = dialect.separator
    if not dialect.quotes or not any(f'{separator} "' in line for line in ahead):
        return dialect
    plain, spaced = sample(ahead, separator, whole), sample(ahead, separator, whole, skip_space=True)
    if _width(spaced) < 2:
        return dialect
    quoted = [[cell.startswith(' "') and cell.endswith('"') for cell in record] for record in plain[1:]]
    if _width(plain) > 1 and not any(all(column) for column in zip(*quoted, strict=True)):
        return dialect
    note = f"spaces after {named(separator)} are not part of the fields"
    return replace(dialect, skip_space=True, notes=(*dialect.notes, note))


def has_written_quotes(lines: Iterable[str], limit: int) -> bool:
    """Does a tab-separated file use quotes as spreadsheets and pandas write them, all through?

    Then each quoted field ends with its quote and doubles those inside, other fields have none, and it is quoted for
    a reason: for a tab, a line end or a quote inside (pandas); for one of these or a comma, and all fields with one
    are (Excel); or all fields of its column are. Where texts merely begin with a quote, none of this holds all through.
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
    """The fields with their quotes; none where a quote stands in the middle of one."""
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
        """Take one more record; is there a reason left?"""
        for at, raw in enumerate(fields):
            quoted, inside = raw.startswith('"'), raw[1:-1]
            self.any_quoted |= quoted
            needed = quoted and any(sign in inside for sign in '\t\n\r"')
            self._minimal &= needed or not quoted
            self._excel &= needed or any(sign in inside for sign in ",;") if quoted else "," not in raw
            if not self._header and raw:
                while len(self._columns) <= at:
                    self._columns.append(set())
                self._columns[at].add(quoted)
        self._header = False
        return self._minimal or self._excel or all(len(column) < 2 for column in self._columns)


# The header -------------------------------------------------------------------------------------------------------


def find_header(records: Sequence[Sequence[str]], source: str, options: ReadOptions, asked: Collection[str]) -> Header:
    """The names of the columns: the first record, unless it is data.

    Two columns without a header are read as label and text, with a note.

    Raises:
        DataError: two columns of one name, or a first line that looks like data where that is not clear enough.
    """
    first = list(records[0])
    if not options.header:
        return Header([str(number) for number in range(1, len(first) + 1)], False)
    if set(first) & set(asked):
        return Header(checked_header(first, source), True)
    body = [record for record in records[1:] if len(record) == len(first) and list(record) != first]
    recurring = [at for at, cell in enumerate(first) if cell.strip() and any(row[at] == cell for row in body)]
    names = [cell.strip().casefold() for at, cell in enumerate(first) if at not in recurring]
    if len(first) == 2 and (names_of_data := _label_and_text(first, body, recurring)):
        note = f"{source} has no header: its two columns are read as {' and '.join(names_of_data)}"
        return Header(names_of_data, False, (note,))
    usual = {cell.strip().casefold() for cell in first} & TEXT_NAMES
    if recurring and not set(names) & (TEXT_NAMES | LABEL_NAMES) and not (usual and _all_named(first)):
        cell = first[recurring[0]]
        raise DataError(
            f"the first line of {source} looks like data: {shown([cell])} is also a value below it; pass --no-header "
            "(the columns are then named 1, 2, …, for --text and --label), or name the columns with --text and --label"
        )
    return Header(checked_header(first, source), True)


def _all_named(first: Sequence[str]) -> bool:
    return all(cell.strip().casefold() in TEXT_NAMES | LABEL_NAMES for cell in first)


def _label_and_text(first: Sequence[str], body: Sequence[Sequence[str]], recurring: Sequence[int]) -> list[str] | None:
    """ "label" and "text" in the order of the columns, where one of them recurs as labels do and the other does not."""
    for at in recurring:
        other = first[1 - at].strip().casefold()
        labels, texts = ({row[column] for row in (first, *body)} for column in (at, 1 - at))
        if other not in TEXT_NAMES | LABEL_NAMES and len(labels) < len(texts):
            return ["label", "text"] if at == 0 else ["text", "label"]
    return None


def take_ahead(lines: Iterator[str], n_lines: int, n_characters: int) -> tuple[list[str], bool]:
    """The first lines, up to a number of lines and of characters; and whether these are all."""
    ahead: list[str] = []
    size = 0
    while len(ahead) < n_lines and size < n_characters:
        line = next(lines, None)
        if line is None:
            return ahead, True
        ahead.append(line)
        size += len(line)
    return ahead, False
