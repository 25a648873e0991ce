"""Batches of an Arrow table as rows: values become Python values when they are read, and rows can be Arrow again.

    batch of rows ──► Row, Row, …   each of which knows its batch and its index there

Rows that are copied to a Parquet file keep their types: `as_table` joins the slices of their batches without making
Python values of them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lasttoken.core.errors import DataError
from lasttoken.data.tables.format import ReadRequest
from lasttoken.data.tables.lines import long_fault
from lasttoken.data.tables.table import BadRow, Row, report_bad


class ArrowRow(Mapping[str, object]):
    """One row of a batch. A column becomes Python values, for the whole batch, when one of its values is read."""

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
    """Rows that are in memory together; `classes`: the class names of a column of integers, where the file has them."""

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
            self._plain[name] = self._plain_column(name)
        return self._plain[name]

    def _plain_column(self, name: str) -> list[object]:
        column = self.arrow.column(name)
        try:
            values = plain_values(column, decoded=name not in self._raw)
        except UnicodeDecodeError:  # strings that are not UTF-8; writers do not check them
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
    """An array as Python values: dates, times and durations as text; bytes as text, if they are `decoded`."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_duration(kind):
        return [_duration(value, kind.unit) for value in column.cast(pyarrow.int64()).to_pylist()]
    if pyarrow.types.is_temporal(kind) and not pyarrow.types.is_interval(kind):
        column = column.cast(pyarrow.string())  # Python values of nanoseconds would need pandas
    elif decoded and is_binary(kind):
        column = column.cast(pyarrow.binary()).cast(pyarrow.string())
    elif pyarrow.types.is_nested(kind):
        column = _without_nanoseconds(column)
    values: list[object] = column.to_pylist()
    return values


def _without_nanoseconds(column: Any) -> Any:
    """The column with nested times in nanoseconds as text, because Python's times have microseconds only."""
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
    """Whether a type holds bytes."""
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
    """Columns of the rows as an Arrow table with their types, or None if not all rows come from Arrow batches."""
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


def class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """The class names of columns of integers, as Hugging Face's `datasets` records them in a file's metadata."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {
            name: [str(class_name) for class_name in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def batch_rows(
    arrow: Any, n_before: int, raw: Collection[str], classes: Mapping[str, Sequence[str]], request: ReadRequest
) -> Iterator[Row]:
    """The rows of a batch.

    Args:
        arrow: the batch, a pyarrow.RecordBatch.
        n_before: rows before it in the file.
        raw: columns whose bytes are not text.
        classes: see `class_names`.
        request: says how long a row may be, and what becomes of a longer one.
    """
    batch = Batch(arrow, raw, classes)
    long = _long_rows(arrow, request.options.max_row_bytes)
    for index in range(arrow.num_rows):
        number = n_before + index + 1
        if index in long:
            report_bad(BadRow(number, None, long_fault(request.options)), request.source, request.on_bad)
        else:
            yield Row(number, None, ArrowRow(batch, index))


def undecodable_columns(batches: Iterable[Any], names: Sequence[str]) -> set[str]:
    """The columns with bytes that are not UTF-8; a column of bytes that are all UTF-8 is text stored as bytes."""
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
    """The indices of the rows of a batch with a text or bytes longer than the limit."""
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
    """Raise an error of pyarrow as a DataError that names the file."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise DataError(f"{source} cannot be read as {kind} ({reason}); write it again") from error
