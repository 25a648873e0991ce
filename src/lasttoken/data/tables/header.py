"""The names of a text table's columns: its first line, or names of our own where that line is data.

label,text          ──►  label, text
spam,Win $1000!     ──►  label and text where the first line recurs below, 1 and 2 with --no-header
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lasttoken.core.errors import DataError
from lasttoken.data.tables.options import ReadOptions
from lasttoken.data.tables.table import LABEL_NAMES, TEXT_NAMES, checked_header, listed


@dataclass(frozen=True)
class Header:
    """The names of the columns; `from_file`: they are the file's first line."""

    names: list[str]
    from_file: bool
    notes: tuple[str, ...] = ()


def find_header(records: Sequence[Sequence[str]], source: str, options: ReadOptions, asked: Collection[str]) -> Header:
    """The names of the columns: the first record, unless it is data.

    Two columns without a header are read as label and text, which a note says.

    Raises:
        DataError: two columns with one name, or a first line that may be data or column names.
    """
    first = list(records[0])
    if not options.header:
        return Header([str(number) for number in range(1, len(first) + 1)], False)
    if set(first) & set(asked):
        return Header(checked_header(first, source), True)
    body = [record for record in records[1:] if len(record) == len(first) and list(record) != first]
    recurring = [
        column for column, cell in enumerate(first) if cell.strip() and any(row[column] == cell for row in body)
    ]
    names = [cell.strip().casefold() for column, cell in enumerate(first) if column not in recurring]
    if len(first) == 2 and (names_of_data := _label_and_text(first, body, recurring)):
        note = f"{source} has no header: its two columns are read as {' and '.join(names_of_data)}"
        return Header(names_of_data, False, (note,))
    usual = {cell.strip().casefold() for cell in first} & TEXT_NAMES
    if recurring and not set(names) & (TEXT_NAMES | LABEL_NAMES) and not (usual and _all_named(first)):
        cell = first[recurring[0]]
        raise DataError(
            f"the first line of {source} looks like data: {listed([cell])} is also a value below it; pass --no-header "
            "(the columns are then named 1, 2, …, for --text and --label), or name the columns with --text and --label"
        )
    return Header(checked_header(first, source), True)


def _all_named(first: Sequence[str]) -> bool:
    return all(cell.strip().casefold() in TEXT_NAMES | LABEL_NAMES for cell in first)


def _label_and_text(first: Sequence[str], body: Sequence[Sequence[str]], recurring: Sequence[int]) -> list[str] | None:
    """The names label and text in the order of two columns, where one has recurring values and the other has not."""
    for column in recurring:
        other = first[1 - column].strip().casefold()
        labels, texts = ({row[index] for row in (first, *body)} for index in (column, 1 - column))
        if other not in TEXT_NAMES | LABEL_NAMES and len(labels) < len(texts):
            return ["label", "text"] if column == 0 else ["text", "label"]
    return None
