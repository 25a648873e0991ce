"""Arrow types for rows that have none, such as JSON's: for each column one type that holds all its values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from lasttoken.data.tables.cells import cell_of
from lasttoken.data.tables.writing import Values

ROWS_TYPED = 1000  # rows whose types are determined at a time
MOST_EXACT = 2**53  # the integer up to which a float holds every integer exactly


def schema_of_values(rows: Iterable[Values], names: Sequence[str]) -> Any:
    """The Arrow types that hold all values of rows; a column with values of different kinds becomes text.

    Args:
        rows: streamed once, a thousand in memory.
        names: the columns.
    """
    import pyarrow

    types: dict[str, Any] = dict.fromkeys(names, pyarrow.null())
    large: set[str] = set()  # columns with an integer that no float holds
    stream = iter(rows)
    while chunk := list(islice(stream, ROWS_TYPED)):
        for name in names:
            values = [row.get(name) for row in chunk]
            kind = _common_type(types[name], values)
            is_floating = pyarrow.types.is_floating(kind)
            if (is_floating or pyarrow.types.is_integer(kind)) and _has_large_integer(values):
                large.add(name)
            types[name] = pyarrow.string() if is_floating and name in large else kind
    return pyarrow.schema([(name, pyarrow.string() if _is_unwritable(kind) else kind) for name, kind in types.items()])


def array_of(values: Sequence[object], kind: Any) -> Any:
    """Values as an Arrow array of a type, None for the type of the values; a column of missing values is text.

    Raises:
        pyarrow.ArrowException: values of different types.
        OverflowError: an integer that no type holds.
    """
    import pyarrow

    if kind is not None and (pyarrow.types.is_null(kind) or pyarrow.types.is_string(kind)):
        return pyarrow.array([None if value is None else cell_of(value) for value in values], pyarrow.string())
    array = pyarrow.array(values, kind)
    return array.cast(pyarrow.string()) if pyarrow.types.is_null(array.type) else array


def _is_unwritable(kind: Any) -> bool:
    """Whether a type contains an object without keys, {}, which Parquet has no form for."""
    import pyarrow

    inner = [kind.field(index).type for index in range(kind.num_fields)]
    return (pyarrow.types.is_struct(kind) and not inner) or any(map(_is_unwritable, inner))


def _has_large_integer(values: Sequence[object]) -> bool:
    return any(isinstance(value, int) and abs(value) > MOST_EXACT for value in values)


def _common_type(known: Any, values: Sequence[object]) -> Any:
    """A type for values of the known type and for these values; text where no other type holds both."""
    import pyarrow

    try:
        chunk = pyarrow.schema([("x", pyarrow.array(values).type)])
        merged = pyarrow.unify_schemas([pyarrow.schema([("x", known)]), chunk], promote_options="permissive")
    except (pyarrow.ArrowException, OverflowError, UnicodeError, TypeError):
        return pyarrow.string()
    return merged.field("x").type
