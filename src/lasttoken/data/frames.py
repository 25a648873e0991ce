"""Tables and lists that Python hands over, read as examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from lasttoken.columns import UNNAMED, ColumnSpec
from lasttoken.data.columns import choose_columns
from lasttoken.data.files import Examples, collect_examples
from lasttoken.data.labels import join_labels
from lasttoken.data.tables import Row, Table, as_string, brief, checked_header
from lasttoken.errors import DataError


def from_frame(
    frame: Any,
    asked: ColumnSpec = UNNAMED,
    *,
    labelled: bool = True,
    separator: str | None = None,
) -> Examples:
    """Examples of anything with `.columns` and `[name].tolist()`, such as a pandas frame; NaN counts as missing.

    Raises:
        DataError: as `read_examples`; rows are counted from 1.
    """
    names = {str(name): name for name in frame.columns}
    header = [str(name) for name in frame.columns]

    def read(columns: Sequence[str]) -> Iterator[Row]:
        lists = [frame[names[column]].tolist() for column in columns]
        for number, values in enumerate(zip(*lists, strict=True), 1):
            yield Row(number, None, dict(zip(columns, values, strict=True)))

    table = Table("the frame", checked_header(header, "the frame"), read)
    columns = choose_columns(table, asked, labelled=labelled, several=separator is not None)
    return collect_examples(table, columns, filled=labelled, separator=separator)


def from_lists(
    texts: Iterable[str],
    labels: Iterable[Any] | None = None,
    ids: Iterable[str | int] | None = None,
    separator: str | None = None,
) -> Examples:
    """Examples of lists of equal length; integer labels and ids become strings.

    With a `separator` each of `labels` is a list of labels, or a string of them, see labels.py.

    Raises:
        DataError: lengths that differ, or a value that is no string (names its index).
    """
    made = Examples(
        _strings(texts, "texts", (str,)),
        None if labels is None else _labels(labels, separator),
        None if ids is None else _strings(ids, "ids", (str, int)),
        source="the lists given",
        separator=separator if labels is not None else None,
    )
    for name, values in (("labels", made.labels), ("ids", made.ids)):
        if values is not None and len(values) != len(made):
            raise DataError(f"there are {len(made)} texts and {len(values)} {name}; give one of each for every example")
    if made.labels is not None:
        _refuse_blank(made.texts, "texts")
        if separator is None:
            _refuse_blank(made.labels, "labels")
    return made


def _labels(values: Iterable[Any], separator: str | None) -> list[str]:
    if separator is None or isinstance(values, str) or not isinstance(values, Iterable):
        return _strings(values, "labels", (str, int))
    made = []
    for index, value in enumerate(values):
        try:
            made.append(join_labels(value, separator))
        except (TypeError, UnicodeError) as error:
            raise DataError(f"labels[{index}] has {error}; give a list of labels") from error
    return made


def _strings(values: Iterable[object], name: str, kinds: tuple[type, ...]) -> list[str]:
    if not isinstance(values, Iterable):
        raise DataError(f"{name} is {brief(values)}; give a list of strings")
    if isinstance(values, str):
        raise DataError(f"{name} is one string, {values[:40]!r}; give a list of strings")
    made = []
    for index, value in enumerate(values):
        plain = value.item() if isinstance(value, np.generic) else value
        if not isinstance(plain, kinds):
            raise DataError(f"{name}[{index}] is {brief(plain)}, of type {type(plain).__name__}; give a string")
        try:
            made.append(as_string(plain) or "")
        except UnicodeError as error:
            raise DataError(f"{name}[{index}] has {error}; give a string that can be written as UTF-8") from error
    return made


def _refuse_blank(values: list[str], name: str) -> None:
    if not values:
        raise DataError(f"{name} is empty; give at least one example of each label")
    for index, value in enumerate(values):
        if not value.strip():
            raise DataError(f"{name}[{index}] is {value!r}; give every example a text and a label")
