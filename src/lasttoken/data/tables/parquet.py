"""Parquet and Arrow files, read as a table; and Parquet written.

    row group ──► batches of rows, cut by their size ──► Row, Row, …

An Arrow file is also called Feather; an Arrow stream is what `datasets` of Hugging Face saves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lasttoken.core.errors import DataError
from lasttoken.data.tables.arrow_types import array_of
from lasttoken.data.tables.columnar import (
    arrow_errors,
    as_table,
    batch_rows,
    class_names,
    is_binary,
    undecodable_columns,
)
from lasttoken.data.tables.format import Format, ReadRequest
from lasttoken.data.tables.lines import long_fault, read_errors
from lasttoken.data.tables.raw_bytes import open_bytes
from lasttoken.data.tables.table import BadRow, Row, Table, checked_header, report_bad
from lasttoken.data.tables.writing import Added, TableWriter, Values

ARROW_FILE = b"ARROW1"
ARROW_STREAM = b"\xff\xff\xff\xff"
BATCH_ROWS = 8192
BATCH_BYTES = 64_000_000  # of the rows in memory at a time, by the sizes that the file states


# Reading ----------------------------------------------------------------------------------------------------------


def read_parquet(request: ReadRequest) -> Table:
    """The table of a Parquet file. With `labelled`, integers that the file has class names for are read as names.

    Raises:
        DataError: a pipe, an empty file, or a file that is not Parquet or is corrupt.
    """
    from pyarrow import parquet  # imported here, because other formats do not need it

    path = request.path
    if not path.is_file():
        raise DataError(f"{path} is a pipe, and Parquet can only be read from a file; save it first")
    with read_errors(path, "utf-8"), open_bytes(path) as handle:
        if not handle.read(1):
            raise DataError(f"{path.name} is empty; write it again")
    with arrow_errors(path.name, "Parquet"):
        file = request.stack.enter_context(parquet.ParquetFile(path))
    schema = file.schema_arrow
    classes = class_names(schema.metadata) if request.labelled else {}
    header = checked_header(list(schema.names), path.name)
    return Table(path.name, header, lambda columns: _parquet_rows(file, columns, classes, request))


def _parquet_rows(
    file: Any, columns: Sequence[str], classes: Mapping[str, Sequence[str]], request: ReadRequest
) -> Iterator[Row]:
    number = 0
    source, limit = request.source, request.options.max_row_bytes
    with arrow_errors(source, "Parquet"):
        raw = _undecodable_in(file, columns)
        for group in range(file.num_row_groups):
            metadata = file.metadata.row_group(group)
            size = metadata.total_byte_size // max(1, metadata.num_rows)
            if size > limit and request.on_bad is None:
                place = f"rows {number + 1} to {number + metadata.num_rows} of {source} have {size:,} bytes on average"
                raise DataError(f"{place}; write shorter rows, or raise --max-row-bytes")
            if size > limit:
                for _ in range(metadata.num_rows):
                    number += 1
                    report_bad(BadRow(number, None, long_fault(request.options)), source, request.on_bad)
                continue
            for arrow in file.iter_batches(batch_size=_batch_size(size), row_groups=[group], columns=list(columns)):
                yield from batch_rows(arrow, number, raw, classes, request)
                number += arrow.num_rows


def _batch_size(row_bytes: int) -> int:
    """How many rows of this size are in memory at a time."""
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, row_bytes)))


def _undecodable_in(file: Any, columns: Sequence[str]) -> set[str]:
    names = [name for name in columns if is_binary(file.schema_arrow.field(name).type)]
    return undecodable_columns(file.iter_batches(batch_size=1024, columns=names), names) if names else set()


def read_arrow(request: ReadRequest) -> Table:
    """The table of an Arrow file or stream.

    Raises:
        DataError: not Arrow, or corrupt.
    """
    import pyarrow

    path = request.path
    with read_errors(path, "utf-8"), open_bytes(path) as handle:
        is_file = handle.read(len(ARROW_FILE)) == ARROW_FILE

    @contextmanager
    def opened() -> Iterator[tuple[Any, Iterator[Any]]]:
        """The schema and the batches."""
        with arrow_errors(path.name), pyarrow.memory_map(str(path)) as source:
            if is_file:
                file = pyarrow.ipc.open_file(source)
                yield file.schema, (file.get_batch(index) for index in range(file.num_record_batches))
            else:
                stream = pyarrow.ipc.open_stream(source)
                yield stream.schema, iter(stream)

    with opened() as (schema, _):
        header = checked_header(list(schema.names), path.name)
        classes = class_names(schema.metadata) if request.labelled else {}

    def read(columns: Sequence[str]) -> Iterator[Row]:
        names = list(columns)
        binary = [name for name in names if is_binary(schema.field(name).type)]
        with opened() as (_, batches):
            raw = undecodable_columns((batch.select(binary) for batch in batches), binary) if binary else set()
        with opened() as (_, batches):
            n_before = 0
            for batch in batches:
                arrow = batch.select(names)
                n_rows = _batch_size(arrow.nbytes // max(1, arrow.num_rows))
                for start in range(0, arrow.num_rows, n_rows):
                    yield from batch_rows(arrow.slice(start, n_rows), n_before + start, raw, classes, request)
                n_before += arrow.num_rows

    return Table(path.name, header, read)


def parquet_schema(path: Path) -> Any:
    """The columns and Arrow types of a Parquet file."""
    from pyarrow import parquet

    return parquet.read_schema(path)


def count_parquet_rows(path: Path) -> int:
    """How many rows a Parquet file says that it has."""
    from pyarrow import parquet

    return int(parquet.read_metadata(path).num_rows)


# Writing ----------------------------------------------------------------------------------------------------------


class ParquetWriter(TableWriter):
    """Writes Parquet; kept columns have the types of the input where it has types."""

    format_name = "parquet"
    can_be_empty = False  # without a row, the types of the columns are not known

    def write_part(self, path: Path, rows: Sequence[Values], added: Added, first: Path | None) -> None:
        """Write N rows as a Parquet file; see `TableWriter`."""
        import pyarrow
        from pyarrow import parquet

        schema = parquet_schema(first) if first else self.layout.schema
        types = {
            "text": pyarrow.string(),
            "number": pyarrow.float64(),
            "numbers": pyarrow.map_(pyarrow.string(), pyarrow.float64()),
            "flag": pyarrow.bool_(),
        }
        columns = self._kept_columns(rows, {} if schema is None else {field.name: field.type for field in schema})
        for column, values in zip(self.layout.added, added, strict=True):
            items = [list(value.items()) if isinstance(value, dict) else value for value in values]
            columns[column.name] = pyarrow.array(items, types[column.kind])
        parquet.write_table(pyarrow.table(columns), path)

    def _kept_columns(self, rows: Sequence[Values], types: Mapping[str, Any]) -> dict[str, Any]:
        """The kept columns as Arrow arrays."""
        import pyarrow

        copied = as_table(rows, self.layout.kept)
        if copied is not None:
            return dict(zip(self.layout.kept, copied.columns, strict=True))
        columns = {}
        for name in self.layout.kept:
            try:
                columns[name] = array_of([row.get(name) for row in rows], types.get(name))
            except (pyarrow.ArrowException, OverflowError) as error:
                raise DataError(
                    f"column {name!r} has values of several types, which Parquet cannot hold ({error}); write .jsonl"
                ) from error
        return columns

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """Write the rows of all parts with the schema of the first.

        Raises:
            DataError: a part whose types do not fit.
        """
        import pyarrow
        from pyarrow import parquet

        schema = parquet_schema(parts[0])
        with parquet.ParquetWriter(path, schema) as writer:
            for part in parts:
                try:
                    table = parquet.read_table(part)
                    writer.write_table(table if table.schema.equals(schema) else table.cast(schema))
                except pyarrow.ArrowException as error:
                    raise DataError(
                        f"the rows of {part.name} have other types than the first rows ({error}); write .jsonl"
                    ) from error


PARQUET = Format(
    name="parquet",
    title="Parquet",
    read=read_parquet,
    suffixes=(".parquet",),
    magic=(b"PAR1",),
    is_text=False,
    writer=ParquetWriter,
    has_types=True,
    read_schema=parquet_schema,
    count_rows=count_parquet_rows,
)
ARROW = Format(
    name="arrow",
    title="Arrow",
    read=read_arrow,
    suffixes=(".arrow", ".feather"),
    magic=(ARROW_FILE, ARROW_STREAM),
    is_text=False,
)
