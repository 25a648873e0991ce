"""Tables and lists in memory are read as examples, without importing any library of tables.

pandas, polars                       .columns, [name]
pyarrow, datasets of Hugging Face    .column_names, [name]        ──►  Table  ──►  Examples
{"text": […], "label": […]}          a dict of columns
[{"text": …, "label": …}, …]         rows, as JSON lines have them
NumPy's structured arrays            .dtype.names, [name]
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lasttoken.core.columns import UNNAMED, ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.data.blanks import BlankRows
from lasttoken.data.columns import choose_columns
from lasttoken.data.files import Examples, collect_examples, without_blanks
from lasttoken.data.labels import join_labels
from lasttoken.data.tables.table import Row, Table, as_string, brief, checked_header

SOURCE = "the table"  # in messages


# Tables -----------------------------------------------------------------------------------------------------------


def is_table(value: Any) -> bool:
    """Whether a value has named columns: a frame, a table, a dict, or a list of dicts."""
    if isinstance(value, Mapping) or hasattr(value, "collect_schema") or _column_names(value) is not None:
        return True
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0 and _is_row(value[0])


def _is_row(value: Any) -> bool:
    return isinstance(value, Mapping)


def _column_names(value: Any) -> list[Any] | None:
    """The names of the columns, or None. `column_names` is tried first, because pyarrow's `.columns` are values."""
    for names in (getattr(value, "column_names", None), getattr(value, "columns", None)):
        if names is not None and not callable(names):
            return list(names)
    names = getattr(getattr(value, "dtype", None), "names", None)
    return None if names is None else list(names)


def from_frame(
    frame: Any,
    asked: ColumnSpec = UNNAMED,
    *,
    labelled: bool = True,
    separator: str | None = None,
    trained: ColumnSpec | None = None,
    train_header: Collection[str] | None = None,
    strict: bool = False,
) -> Examples:
    """Read a table in memory, see `is_table`, as examples; NaN and None count as missing.

    Raises:
        DataError: see `read_examples`; rows are counted from 1.
    """
    table = _table(frame, labelled)
    columns = choose_columns(
        table, asked, labelled=labelled, several=separator is not None, trained=trained, train_header=train_header
    )
    return collect_examples(table, columns, BlankRows(table.source, strict) if labelled else None, separator)


def _table(frame: Any, labelled: bool) -> Table:
    if hasattr(frame, "collect_schema") and hasattr(frame, "collect"):
        frame = frame.collect()  # a polars LazyFrame
    if isinstance(frame, Mapping):
        return _table_of_columns(_checked_columns(frame))
    names = _column_names(frame)
    if names is None:
        return _table_of_rows(frame)
    keys = {str(name): name for name in names}
    header = checked_header([str(name) for name in names], SOURCE)
    classes = _class_names(frame) if labelled else {}
    return _streaming(header, lambda name: _named(_values(frame[keys[name]]), classes.get(name, ())))


def _class_names(frame: Any) -> dict[str, list[str]]:
    """The class names of columns of integers, as Hugging Face's `datasets` has them."""
    features = getattr(frame, "features", None)
    if not isinstance(features, Mapping):
        return {}
    names_of = {str(name): getattr(feature, "names", None) for name, feature in features.items()}
    return {name: [*map(str, names)] for name, names in names_of.items() if isinstance(names, list | tuple)}


def _named(values: list[Any], names: Sequence[str]) -> list[Any]:
    known: dict[Any, Any] = dict(enumerate(names))  # -1, which stands for no label, stays -1
    return [known.get(value, value) for value in values] if names else values


def _checked_columns(columns: Mapping[Any, Any]) -> dict[str, Any]:
    for name, values in columns.items():
        if _column_names(values) is not None:
            raise DataError(
                f"the data is a dict of tables ({', '.join(map(repr, columns))}); pass one of them, such as "
                f"splits[{name!r}], and the others as validation= and test="
            )
        if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
            raise DataError(
                f"the data is a dict whose {name!r} is {brief(values)}; pass a dict of columns, such as "
                '{"text": [...], "label": [...]}, or a list of dicts, one for each row'
            )
    return {str(name): _values(values) for name, values in columns.items()}


def _table_of_columns(columns: dict[str, list[Any]]) -> Table:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"the columns differ in length ({lengths}); pass one value of each column for every row")
    return _streaming(list(columns), columns.__getitem__)


def _table_of_rows(rows: Sequence[Any]) -> Table:
    for index, row in enumerate(rows):
        if not _is_row(row):
            raise DataError(f"row {index + 1} of {SOURCE} is {brief(row)}, of type {type(row).__name__}; pass a dict")
    named = [{str(name): value for name, value in row.items()} for row in rows]
    header = list(dict.fromkeys(name for row in named for name in row))
    return Table(SOURCE, header, lambda _: (Row(number, None, row) for number, row in enumerate(named, 1)))


def _streaming(header: list[str], column: Any) -> Table:
    def read(names: Sequence[str]) -> Iterator[Row]:
        for number, values in enumerate(zip(*(column(name) for name in names), strict=True), 1):
            yield Row(number, None, dict(zip(names, values, strict=True)))

    return Table(SOURCE, header, read)


def _values(column: Any) -> list[Any]:
    """A column's values as a list, of Python types where the column's library can convert them."""
    for method in ("to_pylist", "to_list", "tolist"):  # pyarrow; polars and pandas; NumPy
        if callable(convert := getattr(column, method, None)):
            return list(convert())
    return list(column)


# Lists ------------------------------------------------------------------------------------------------------------


def from_lists(
    texts: Iterable[str],
    labels: Iterable[Any] | None = None,
    ids: Iterable[str | int] | None = None,
    separator: str | None = None,
    strict: bool = False,
) -> Examples:
    """Examples of lists of equal length; labels and ids become strings like the values of a table (1.0 is "1.0").

    With labels, rows with a blank text or label are left out, as in `read_examples`. With a `separator`, each item of
    `labels` is a list of labels, or a string of several, see labels.py.

    Raises:
        DataError: lengths that differ, a value that cannot be used, or with `strict` a blank one; names its index.
    """
    made = Examples(
        _strings(texts, "texts", only_strings=True),
        None if labels is None else _labels(labels, separator),
        None if ids is None else _strings(ids, "ids"),
        source="the lists given",
        separator=separator if labels is not None else None,
    )
    for name, values in (("labels", made.labels), ("ids", made.ids)):
        if values is not None and len(values) != len(made):
            raise DataError(f"there are {len(made)} texts and {len(values)} {name}; pass one of each for every example")
    if made.labels is None:
        return made
    if not made.texts:
        raise DataError("texts is empty; pass at least one example of each label")
    return without_blanks(made, "index {}".format, strict)


def _listed(values: Any, name: str) -> list[Any]:
    """The values of a list, array, series or iterator, in their order.

    Raises:
        DataError: one string, a set, a table, or something that is not a list.
    """
    if isinstance(values, str | bytes):
        raise DataError(f"{name} is one string, {values[:40]!r}; pass a list of strings")
    if isinstance(values, set | frozenset):
        raise DataError(f"{name} is a {type(values).__name__}, which has no order; pass a list")
    if is_table(values):
        raise DataError(f"{name} is a table with columns, of type {type(values).__name__}; pass one of its columns")
    if isinstance(values, Path):
        raise DataError(f"{name} is the path {values}; pass a list of strings, or use predict_file for a file")
    if not isinstance(values, Iterable) or getattr(values, "shape", None) == ():
        raise DataError(f"{name} is {brief(values)}; pass a list of strings")
    return _values(values)


def _labels(values: Iterable[Any], separator: str | None) -> list[str]:
    if separator is None:
        return _strings(values, "labels")
    made = []
    for index, value in enumerate(_listed(values, "labels")):
        try:
            made.append(join_labels(sorted(value) if isinstance(value, set | frozenset) else value, separator))
        except (TypeError, UnicodeError) as error:
            raise DataError(f"labels[{index}] has {error}; pass a list of labels") from error
    return made


def _strings(values: Iterable[object], name: str, only_strings: bool = False) -> list[str]:
    """Values as strings. With `only_strings` a number is an error; otherwise it becomes a string, as in a table."""
    made = []
    for index, value in enumerate(_listed(values, name)):
        plain = value.item() if isinstance(value, np.generic) else value
        fault = f"{name}[{index}] is {brief(plain)}, of type {type(plain).__name__}; pass a string"
        if isinstance(plain, bytes) or (only_strings and not isinstance(plain, str)):
            raise DataError(fault)
        try:
            string = as_string(plain)
        except TypeError as error:
            raise DataError(fault) from error
        except UnicodeError as error:
            raise DataError(f"{name}[{index}] has {error}; pass a string that can be encoded as UTF-8") from error
        if string is None:
            raise DataError(fault)
        made.append(string)
    return made
