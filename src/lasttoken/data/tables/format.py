"""What a file format is: its names, how it is recognized, how it is read as a table, and how rows are written.

    delimited.py     CSV = Format("csv", …, suffixes=(".csv",), read=read_csv, writer=CsvWriter)
    formats.py       FORMATS = (CSV, TSV, …)      the only list of all formats

A reader gets a `ReadRequest` and returns a `Table`, whose rows stream. A writer is a `TableWriter`, see writing.py; a
format without one can only be read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lasttoken.data.tables.options import ReadOptions
from lasttoken.data.tables.table import OnBad, Table
from lasttoken.data.tables.writing import OutputLayout, TableWriter


@dataclass(frozen=True)
class ReadRequest:
    """A file to read, and how."""

    path: Path
    options: ReadOptions
    stack: ExitStack  # closes with the table; a reader registers here what it opens
    asked: Collection[str] = ()  # columns that the user named
    on_bad: OnBad | None = None  # is called with each row that cannot be read; None: the first such row is an error
    labelled: bool = True  # labels are read
    every_key: bool = False  # the header lists the keys of all rows, where rows have keys of their own

    @property
    def source(self) -> str:
        """The file's name, for messages."""
        return self.path.name

    @property
    def can_reread(self) -> bool:
        """Whether the file can be read from the start again; a pipe cannot."""
        return self.path.is_file()

    def closing(self, generator: Generator[str, None, None]) -> Iterator[str]:
        """The generator, closed with the table."""
        self.stack.callback(generator.close)
        return generator


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format, its reader and its writer together."""

    name: str  # as --format takes it
    title: str  # in messages
    read: Callable[[ReadRequest], Table]
    suffixes: tuple[str, ...] = ()
    shared_suffixes: tuple[str, ...] = ()  # suffixes that files other than tables have too; read as this format
    magic: tuple[bytes, ...] = ()  # a file that starts with one of these is of this format, whatever else is said
    claims: Callable[[bytes], bool] | None = None  # whether the start of a file that a `plain` suffix names is this
    plain: bool = False  # nothing in a file shows this format, so a format that claims the file is preferred
    is_text: bool = True  # has an encoding, may be compressed with gzip
    writer: Callable[[OutputLayout], TableWriter] | None = None
    has_types: bool = False  # written columns have types
    for_spreadsheets: bool = False  # written cells may be formulas to a spreadsheet
    read_schema: Callable[[Path], Any] | None = None  # the Arrow schema that a file declares
    count_rows: Callable[[Path], int] | None = None  # without reading the rows
