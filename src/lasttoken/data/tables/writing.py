"""Rows, with the columns that scoring adds, are written as parts of a file, which are then joined.

part 0 ┐  text: bytes end to end, below one header (gzip members end to end are gzip)
part 1 ┼─ Parquet: row groups end to end, with the schema of the first part
part 2 ┘
"""

from __future__ import annotations

import gzip
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lasttoken.core.documents import to_json
from lasttoken.data.tables.cells import cell_of

GZIP_LEVEL = 6
COPIED_BYTES = 1 << 20  # at a time

Values = Mapping[str, object]  # a row: column → value as the input holds it
ColumnKind = Literal["text", "number", "numbers", "flag"]  # numbers: a number for each of several names
Added = Sequence[Sequence[object]]  # N values for each added column


@dataclass(frozen=True)
class AddedColumn:
    """A column that scoring adds."""

    name: str
    kind: ColumnKind


@dataclass(frozen=True)
class OutputLayout:
    """The columns of an output, and how they are written: the `kept` columns of the input, then the `added` ones."""

    kept: tuple[str, ...]
    added: tuple[AddedColumn, ...]
    compressed: bool = False  # with gzip
    spreadsheet_safe: bool = False  # no cell is a formula to a spreadsheet
    every_key: bool = False  # all keys of a row are written, also those that the header lacks, where rows have keys
    schema: Any = None  # the Arrow types of the kept columns, where they are known

    @property
    def names(self) -> list[str]:
        """All columns in their order."""
        return [*self.kept, *(column.name for column in self.added)]


class TableWriter(ABC):
    """Writes parts of an output and joins them."""

    format_name: str
    can_be_empty = True  # an output without rows can be written

    def __init__(self, layout: OutputLayout) -> None:
        self.layout = layout

    @property
    def suffix(self) -> str:
        """The suffix of a part's file."""
        return f".{self.format_name}.gz" if self.layout.compressed else f".{self.format_name}"

    @abstractmethod
    def write_part(self, path: Path, rows: Sequence[Values], added: Added, first: Path | None) -> None:
        """Write N rows to a part's file.

        Args:
            path: the file.
            rows: N rows of the input.
            added: N values for each added column.
            first: the file of the first part, whose types the others take; None where there is none yet.

        Raises:
            DataError: values that the format cannot hold.
        """

    @abstractmethod
    def join(self, parts: Sequence[Path], path: Path) -> None:
        """Write one file of the parts."""


class TextWriter(TableWriter):
    """Writes text: a head, then lines; it can also be streamed."""

    def head(self) -> str:
        """What stands before the first row."""
        return ""

    @abstractmethod
    def body(self, rows: Sequence[Values], added: Added) -> str:
        """N rows as text; `added` has N values for each added column."""

    def write_part(self, path: Path, rows: Sequence[Values], added: Added, first: Path | None) -> None:
        """Write N rows without a head; see `TableWriter`."""
        path.write_bytes(self.encoded(self.body(rows, added)))

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """Write the head, then the parts' bytes."""
        with path.open("wb") as whole:
            if head := self.head():
                whole.write(self.encoded(head))
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, whole, COPIED_BYTES)

    def encoded(self, text: str) -> bytes:
        """Text as it stands in the file: a gzip member of its own where the output is compressed."""
        content = text.encode("utf-8")
        return gzip.compress(content, GZIP_LEVEL, mtime=0) if self.layout.compressed else content


def added_cell(value: object) -> str:
    """A value of an added column as a field of a text file.

    >>> added_cell(0.25), added_cell({"spam": 0.25}), added_cell(True), added_cell(None)
    ('0.250000', '{"spam": 0.25}', 'true', '')
    """
    if isinstance(value, float):
        return f"{value:.6f}"
    return to_json(value) if isinstance(value, dict) else cell_of(value)
