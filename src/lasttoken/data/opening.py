"""A file is opened as a table, by what its name, the user and its first bytes say that it is.

    messages.csv  ──open_table──►  Table: header + Row, Row, …
      text,label                     nothing kept, values as they were
      Win $1000!,spam

A reader that can do without a row gives `on_bad`, which is told of each row that cannot be read; the rest streams on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from lasttoken.core.errors import DataError
from lasttoken.data.annotations import converted
from lasttoken.data.columnar import open_arrow, open_parquet
from lasttoken.data.delimited import delimited_table, is_fasttext, text_lines_table
from lasttoken.data.dialect import take_ahead
from lasttoken.data.json_rows import JsonFile, json_table
from lasttoken.data.lines import (
    ARROW,
    PARQUET,
    codec_name,
    first_bytes,
    marked_encoding,
    read_errors,
    read_lines,
    read_pieces,
    refuse_folder,
    refuse_other_kinds,
)
from lasttoken.data.options import DEFAULT, ReadOptions
from lasttoken.data.tables import BadRow, OnBad, Row, Table, place_of, row_fault

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "tsv",
    "": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
JSON_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\[\s*)?\{\s*\"[^\"\n]*\"\s*:")  # of an object, perhaps in an array
ROWS_AHEAD = 100  # of JSON, looked at to tell whose export it is
MOST_NAMED = 5  # rows that are named when some are left out


@contextmanager
def open_table(
    path: str | Path,
    *,
    options: ReadOptions = DEFAULT,
    asked: Collection[str] = (),
    on_bad: OnBad | None = None,
    labelled: bool = True,
    every_key: bool = False,
) -> Iterator[Table]:
    """Open a file as a table whose rows stream: memory does not grow with the file.

    With `on_bad` a row that cannot be read is told there and left out. A file that breaks off, or a quote that is never
    closed, ends the reading all the same: what follows it is lost. With `options.skip_unreadable` such rows are counted
    in the table's late notes.

    `asked` are the columns that the user named: a first line that has one of them is a header. `labelled`: labels are
    read, and rows that an annotator rejected are left out. `every_key`: the header has every key of a JSON file.

    Raises:
        DataError: the file cannot be opened, or read as what it is.
    """
    path = Path(path)
    left_out: list[BadRow] = []
    skips = options.skip_unreadable and on_bad is None
    with ExitStack() as stack:
        with read_errors(path, options.encoding):
            refuse_folder(path)
            path.stat()  # a missing file is named before its suffix is judged
        start = first_bytes(path)
        notes: tuple[str, ...] = ()
        if (marked := marked_encoding(start)) and codec_name(options.encoding) == "utf-8":
            options = replace(options, encoding=marked)
            notes = (f"{path.name} is read as {marked}, as its byte order mark says",)
        kind = _kind(path, start, options)
        if kind == "json" and not options.format:
            options = replace(options, format=kind)
        if kind not in ("parquet", "arrow"):
            refuse_other_kinds(path, start, options.encoding)
        on_bad = left_out.append if skips else on_bad
        if kind == "parquet":
            table = stack.enter_context(open_parquet(path, options, on_bad, labelled))
        elif kind == "arrow":
            table = stack.enter_context(open_arrow(path, options, on_bad, labelled))
        elif kind in ("json", "jsonl"):
            table = _json(path, options, stack, asked, on_bad, labelled=labelled, every_key=every_key)
        else:
            table = _text(path, kind, options, stack, asked, on_bad)
        table = replace(table, notes=(*notes, *_about_kind(path, kind, start), *table.notes))
        yield _skipping(table, left_out, options) if skips else table


def _kind(path: Path, start: bytes, options: ReadOptions) -> str:
    if start.startswith(PARQUET):
        return "parquet"
    if start.startswith(ARROW):
        return "arrow"
    if options.format:
        return options.format
    inner = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    kind = FORMATS.get(inner.suffix.lower())
    if kind is None and path.is_file():
        refuse_other_kinds(path, start, "utf-16")  # what it is says more than its suffix
    if kind is None or (kind == "parquet" and inner != path):
        raise DataError(
            f"{path} has an unsupported file type; use .csv, .tsv or .jsonl, perhaps with .gz, or .parquet, or say "
            "what it is with --format"
        )
    return "json" if kind in ("csv", "tsv") and JSON_START.match(start) else kind


def _about_kind(path: Path, kind: str, start: bytes) -> tuple[str, ...]:
    if kind == "parquet" and start and path.suffix.lower() != ".parquet":
        return (f"{path.name} is a Parquet file, and is read as one",)
    if kind == "json" and FORMATS.get(path.suffix.lower()) in ("csv", "tsv"):
        return (f"{path.name} holds JSON, and is read as JSON",)
    return ()


def _json(
    path: Path,
    options: ReadOptions,
    stack: ExitStack,
    asked: Collection[str],
    on_bad: OnBad | None,
    *,
    labelled: bool,
    every_key: bool,
) -> Table:
    escaped = on_bad is not None  # bytes that cannot be decoded then spoil their row only

    def pieces() -> Iterator[str]:
        return _closed_with(stack, read_pieces(path, options, escaped))

    file = JsonFile(path, options, pieces, pieces if path.is_file() else None)
    table = json_table(file, asked, on_bad, labelled=labelled, every_key=every_key)
    rows = table.read(table.header)
    ahead = list(islice(rows, ROWS_AHEAD))
    table = replace(table, read=lambda _: chain(ahead, rows))
    return converted(table, ahead, asked, labelled)


def _text(
    path: Path, kind: str, options: ReadOptions, stack: ExitStack, asked: Collection[str], on_bad: OnBad | None
) -> Table:
    escaped = on_bad is not None
    newline = "" if kind == "csv" else "\n"

    def lines() -> Iterator[str]:
        return _closed_with(stack, read_lines(path, options, newline, escaped))

    content = lines()
    ahead, _ = take_ahead(content, 1, 1)
    content = chain(ahead, content)
    if kind == "fasttext" or (kind == "tsv" and not options.format and is_fasttext(ahead)):
        return text_lines_table(content, path, options, labelled=True, on_bad=on_bad)
    if kind == "txt":
        return text_lines_table(content, path, options, labelled=False, on_bad=on_bad)
    again = lines if path.is_file() else None
    return delimited_table(content, path, options, tabbed=kind == "tsv", asked=asked, on_bad=on_bad, read_again=again)


def _closed_with(stack: ExitStack, lines: Generator[str, None, None]) -> Iterator[str]:
    stack.callback(lines.close)
    return lines


def _skipping(table: Table, left_out: list[BadRow], options: ReadOptions) -> Table:
    """The table without the rows that cannot be read, which its late notes count."""

    def read(columns: Sequence[str]) -> Iterator[Row]:
        for row in table.read(columns):
            if fault := row_fault(row, options.encoding):
                left_out.append(BadRow(row.number, row.line, fault))
            else:
                yield row
        if left_out:
            named = [f"{place_of(bad.number, bad.line, table.source)} {bad.reason}" for bad in left_out[:MOST_NAMED]]
            more = f"; and {len(left_out) - MOST_NAMED:,} more" if len(left_out) > MOST_NAMED else ""
            counted = f"{len(left_out):,} {'row is' if len(left_out) == 1 else 'rows are'} left out, for reading failed"
            table.late_notes.append(f"{table.source}: {counted}: {'; '.join(named)}{more}")

    return replace(table, read=read)
