"""Parquet and Arrow as rows: values are made plain when asked for, and a whole column of them can stay as it is.

    row group ──► batch of rows, by their size ──► Row, Row, …   each of which knows its batch

A file that is copied to Parquet keeps its types: `as_table` puts the rows' own slices together, with no way through
Python values.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lasttoken.core.errors import DataError
from lasttoken.data.lines import long_fault, open_bytes, read_errors
from lasttoken.data.options import ReadOptions
from lasttoken.data.tables import BadRow, OnBad, Row, Table, checked_header, refuse

ARROW_FILE = b"ARROW1"  # how an Arrow file begins; a stream does not
BATCH_ROWS = 8192
BATCH_BYTES = 64_000_000  # of the rows that are in memory at a time, by what the file says of their size


class ArrowRow(Mapping[str, object]):
    """One row of a batch: its columns as plain Python values, made for the whole batch when the first is asked for."""

    __slots__ = ("batch", "index")

    def __init__(self, batch: Batch, index: int) -> None:
        self.batch, self.index = batch, index

    def __getitem__(self, name: str) -> object:
        return self.batch.values(name)[self.index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.batch.names)

    def __len__(self) -> int:
        return len(self.batch.names)


class Batch:
    """Rows that are in memory together; `classes`: the names of a column's integers, where the file knows them."""

    def __init__(self, arrow: Any, raw: Collection[str], classes: Mapping[str, Sequence[str]]) -> None:
        self.arrow, self._raw, self._classes = arrow, raw, classes
        self.names: list[str] = list(arrow.schema.names)
        self._plain: dict[str, list[object]] = {}
        self.text_names = [field.name for field in arrow.schema if _may_hold_text(field.type)]

    def values(self, name: str) -> list[object]:
        """A column's values.

        Raises:
            KeyError: there is no such column.
        """
        if name not in self._plain:
            if name not in self.names:
                raise KeyError(name)
            self._plain[name] = self._made_plain(name)
        return self._plain[name]

    def _made_plain(self, name: str) -> list[object]:
        column = self.arrow.column(name)
        try:
            values = plain_values(column, decoded=name not in self._raw)
        except UnicodeDecodeError:  # strings that are not UTF-8, which no one checks when they are written
            values = [_escaped(value) for value in column.cast(_bytes_like(column.type)).to_pylist()]
        names = self._classes.get(name)
        if names is None:
            return values
        known: dict[object, object] = dict(enumerate(names))  # -1, no label, stays -1
        return [known.get(value, value) for value in values]


def _bytes_like(kind: Any) -> Any:
    import pyarrow

    return pyarrow.large_binary() if pyarrow.types.is_large_string(kind) else pyarrow.binary()


def _escaped(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "surrogateescape")


def plain_values(column: Any, decoded: bool = True) -> list[object]:
    """An array as Python values: points in time, times and durations as text; bytes as text, if they are `decoded`."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_duration(kind):
        return [_duration(value, kind.unit) for value in column.cast(pyarrow.int64()).to_pylist()]
    if pyarrow.types.is_temporal(kind) and not pyarrow.types.is_interval(kind):
        column = column.cast(pyarrow.string())  # nanoseconds would need pandas
    elif decoded and is_binary(kind):
        column = column.cast(pyarrow.binary()).cast(pyarrow.string())
    elif pyarrow.types.is_nested(kind):
        column = _without_nanoseconds(column)
    values: list[object] = column.to_pylist()
    return values


def _without_nanoseconds(column: Any) -> Any:
    """Nested times with nanoseconds as microseconds' text, for Python has none."""
    import pyarrow

    wanted = _plain_type(column.type)
    if wanted == column.type:
        return column
    try:
        return column.cast(wanted)
    except pyarrow.ArrowException:
        return column


def _plain_type(kind: Any) -> Any:
    import pyarrow

    types = pyarrow.types
    if types.is_timestamp(kind) or types.is_time(kind):
        return pyarrow.string() if getattr(kind, "unit", "") == "ns" else kind
    if types.is_large_list(kind):
        return pyarrow.large_list(_plain_type(kind.value_type))
    if types.is_list(kind):
        return pyarrow.list_(_plain_type(kind.value_type))
    if types.is_struct(kind):
        return pyarrow.struct([(field.name, _plain_type(field.type)) for field in kind])
    return kind


def _duration(value: int | None, unit: str) -> str | None:
    """A duration as ISO 8601 writes it, exact to the nanosecond.

    >>> _duration(90_500, "ms"), _duration(-1, "ns"), _duration(172800, "s")
    ('PT90.5S', '-PT0.000000001S', 'PT172800S')
    """
    if value is None:
        return None
    digits = {"s": 0, "ms": 3, "us": 6, "ns": 9}[unit]
    whole, part = divmod(abs(value), 10**digits)
    decimals = f".{part:0{digits}d}".rstrip("0") if part else ""
    return f"{'-' if value < 0 else ''}PT{whole}{decimals}S"


def is_binary(kind: Any) -> bool:
    """Is a type one of bytes?"""
    import pyarrow

    types = pyarrow.types
    views = getattr(types, "is_binary_view", lambda _: False)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind) or views(kind))


def _may_hold_text(kind: Any) -> bool:
    import pyarrow

    types = pyarrow.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _may_hold_text(kind.value_type)
    return not (types.is_primitive(kind) or types.is_decimal(kind) or is_binary(kind))


def as_table(rows: Sequence[Mapping[str, object]], names: Sequence[str]) -> Any:
    """The rows' own columns as an Arrow table, or None if they are not all of a Parquet file."""
    import pyarrow

    pieces: list[Any] = []
    run: list[ArrowRow] = []
    for row in rows:
        if not isinstance(row, ArrowRow):
            return None
        if run and (row.batch is not run[-1].batch or row.index != run[-1].index + 1):
            pieces.append(run[0].batch.arrow.slice(run[0].index, len(run)))
            run = []
        run.append(row)
    if not run:
        return None
    pieces.append(run[0].batch.arrow.slice(run[0].index, len(run)))
    return pyarrow.Table.from_batches(pieces).select(list(names))


# Opening ----------------------------------------------------------------------------------------------------------


@contextmanager
def open_parquet(path: Path, options: ReadOptions, on_bad: OnBad | None, labelled: bool) -> Iterator[Table]:
    """A Parquet file as a table. `labelled`: integers that the file gives names to are read as their names.

    Raises:
        DataError: not Parquet, or damaged.
    """
    from pyarrow import parquet  # here, so that other formats need not load it

    if path.is_file():
        with read_errors(path, "utf-8"), open_bytes(path) as handle:
            if not handle.read(1):
                raise DataError(f"{path.name} is empty; write it again")
    else:
        raise DataError(f"{path} is a pipe, and Parquet is read from a file; save it first")
    with arrow_errors(path.name, "Parquet"):
        file = parquet.ParquetFile(path)
    with file:
        schema = file.schema_arrow
        header = checked_header(list(schema.names), path.name)
        classes = class_names(schema.metadata) if labelled else {}
        yield Table(
            path.name, header, lambda columns: _parquet_rows(file, columns, path.name, options, classes, on_bad)
        )


@contextmanager
def open_arrow(path: Path, options: ReadOptions, on_bad: OnBad | None, labelled: bool) -> Iterator[Table]:
    """An Arrow file, also called Feather, or an Arrow stream as a table; as `datasets` of Hugging Face saves them.

    Raises:
        DataError: not Arrow, or damaged.
    """
    import pyarrow

    with read_errors(path, "utf-8"), open_bytes(path) as handle:
        framed = handle.read(len(ARROW_FILE)) == ARROW_FILE

    @contextmanager
    def opened() -> Iterator[tuple[Any, Iterator[Any]]]:
        with arrow_errors(path.name), pyarrow.memory_map(str(path)) as source:
            if framed:
                file = pyarrow.ipc.open_file(source)
                yield file.schema, (file.get_batch(index) for index in range(file.num_record_batches))
            else:
                stream = pyarrow.ipc.open_stream(source)
                yield stream.schema, iter(stream)

    with opened() as (schema, _):
        header = checked_header(list(schema.names), path.name)
        classes = class_names(schema.metadata) if labelled else {}

    def read(columns: Sequence[str]) -> Iterator[Row]:
        names = list(columns)
        bytes_like = [name for name in names if is_binary(schema.field(name).type)]
        with opened() as (_, batches):
            raw = _raw_columns((batch.select(bytes_like) for batch in batches), bytes_like) if bytes_like else set()
        with opened() as (_, batches):
            n_before = 0
            for batch in batches:
                arrow = batch.select(names)
                size = arrow.nbytes // max(1, arrow.num_rows)
                n_rows = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, size)))
                for start in range(0, arrow.num_rows, n_rows):
                    yield from _batch_rows(arrow.slice(start, n_rows), n_before + start, raw, classes, reading)
                n_before += arrow.num_rows

    reading = _Reading(path.name, options, on_bad)
    yield Table(path.name, header, read)


def class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """The names of integers that stand for classes, by column, as Hugging Face's `datasets` records them."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {
            name: [str(one) for one in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _parquet_rows(
    file: Any,
    columns: Sequence[str],
    source: str,
    options: ReadOptions,
    classes: Mapping[str, Sequence[str]],
    on_bad: OnBad | None,
) -> Iterator[Row]:
    number = 0
    limit = options.max_row_bytes
    reading = _Reading(source, options, on_bad)
    with arrow_errors(source, "Parquet"):
        raw = _columns_of_bytes(file, columns)
        for group in range(file.num_row_groups):
            metadata = file.metadata.row_group(group)
            size = metadata.total_byte_size // max(1, metadata.num_rows)
            if size > limit and on_bad is None:
                place = f"rows {number + 1} to {number + metadata.num_rows} of {source} have {size:,} bytes on average"
                raise DataError(f"{place}; write shorter rows, or raise --max-row-bytes")
            if size > limit:
                for _ in range(metadata.num_rows):
                    number += 1
                    refuse(BadRow(number, None, long_fault(options)), source, on_bad)
                continue
            n_rows = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, size)))
            for arrow in file.iter_batches(batch_size=n_rows, row_groups=[group], columns=list(columns)):
                yield from _batch_rows(arrow, number, raw, classes, reading)
                number += arrow.num_rows


@dataclass(frozen=True)
class _Reading:
    """What a table is called and how it is read."""

    source: str
    options: ReadOptions
    on_bad: OnBad | None


def _batch_rows(
    arrow: Any, n_before: int, raw: Collection[str], classes: Mapping[str, Sequence[str]], reading: _Reading
) -> Iterator[Row]:
    batch = Batch(arrow, raw, classes)
    long = _long_rows(arrow, reading.options.max_row_bytes)
    for index in range(arrow.num_rows):
        number = n_before + index + 1
        if index in long:
            refuse(BadRow(number, None, long_fault(reading.options)), reading.source, reading.on_bad)
        else:
            yield Row(number, None, ArrowRow(batch, index))


def _columns_of_bytes(file: Any, columns: Sequence[str]) -> set[str]:
    names = [name for name in columns if is_binary(file.schema_arrow.field(name).type)]
    return _raw_columns(file.iter_batches(batch_size=1024, columns=names), names) if names else set()


def _raw_columns(batches: Iterable[Any], names: Sequence[str]) -> set[str]:
    """The columns whose bytes are not all text; what all decodes as UTF-8 is text that a writer did not declare."""
    import pyarrow

    raw: set[str] = set()
    for batch in batches:
        for name in names:
            if name in raw:
                continue
            try:
                batch.column(name).cast(pyarrow.binary()).cast(pyarrow.string()).validate(full=True)
            except pyarrow.ArrowException:
                raw.add(name)
    return raw


def _long_rows(arrow: Any, limit: int) -> set[int]:
    """The rows of a batch with a text or bytes beyond the limit."""
    import pyarrow
    from pyarrow import compute

    if arrow.nbytes <= limit:
        return set()
    long: set[int] = set()
    for column in arrow.columns:
        kind = column.type
        texts = (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)) or (
            is_binary(kind) and not pyarrow.types.is_fixed_size_binary(kind)
        )
        if texts:
            beyond = compute.greater(compute.binary_length(column), limit)
            long.update(compute.indices_nonzero(beyond.fill_null(False)).to_pylist())
    return long


@contextmanager
def arrow_errors(source: str, kind: str = "Arrow") -> Iterator[None]:
    """Turn what pyarrow says of a file into one sentence."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise DataError(f"{source} cannot be read as {kind} ({reason}); write it again") from error
