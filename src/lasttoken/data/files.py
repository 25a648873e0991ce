"""Files of texts, read as examples: CSV, TSV, JSONL, Parquet, a frame or two lists become one shape.

    messages.csv ──open_table──► Table: header + Row, Row, …  ──read_examples──►  Examples
      text,label                   streamed, nothing kept          texts  ["Win $1000!", "see you at 6"]
      Win $1000!,spam              values as they were             labels ["spam", "ham"]
      see you at 6,ham                                             notes  ("text is read from column 'text' …",)

Which file formats there are is tables.py's concern; here columns are chosen and rows become examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lasttoken.data.labels import join_labels
from lasttoken.data.options import DEFAULT, ReadOptions
from lasttoken.data.tables import (
    LABEL_NAMES,
    TEXT_NAMES,
    Row,
    Table,
    as_string,
    brief,
    checked_header,
    open_table,
    shown,
)
from lasttoken.errors import DataError, nearest


@dataclass(frozen=True)
class Examples:
    """N texts with, perhaps, their labels, ids and groups: lists of length N, or None where there are none.

    `source` names where they are from, for messages; `notes` says in sentences what was guessed or merged.
    """

    texts: list[str]
    labels: list[str] | None = None
    ids: list[str] | None = None
    groups: list[str] | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    slices: list[str] | None = None  # the value of the column that errors are broken down by
    separator: str | None = None  # between the labels of a text, see labels.py; None: every text has one label

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Iterable[int]) -> Examples:
        """The examples at these indices, in their order."""
        at = list(indices)

        def taken(values: list[str] | None) -> list[str] | None:
            return None if values is None else [values[i] for i in at]

        return replace(
            self,
            texts=[self.texts[i] for i in at],
            labels=taken(self.labels),
            ids=taken(self.ids),
            groups=taken(self.groups),
            slices=taken(self.slices),
        )


@dataclass(frozen=True)
class Columns:
    """Which column is what; `notes` says what was guessed."""

    text: tuple[str, ...]
    label: str | None = None
    id: str | None = None
    group: str | None = None
    slice_by: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All chosen columns, once each."""
        return list(dict.fromkeys([*self.text, *filter(None, (self.label, self.id, self.group, self.slice_by))]))

    def text_of(self, table: Table, row: Row) -> str:
        """The row's text: its text columns joined by a blank line; "" when all are missing."""
        if len(self.text) == 1:
            return table.cell(row, self.text[0]) or ""
        parts = [table.cell(row, name) or "" for name in self.text]
        return "\n\n".join(part for part in parts if part.strip())


def read_examples(
    path: str | Path,
    *,
    text: Sequence[str] = (),
    label: str | None = None,
    id: str | None = None,
    group: str | None = None,
    slice_by: str | None = None,
    options: ReadOptions = DEFAULT,
    labelled: bool = True,
    keep_blank: bool = False,
    separator: str | None = None,
) -> Examples:
    """Read a file of examples: .csv, .tsv, .txt or no suffix (tab-separated), .jsonl, each also .gz, and .parquet.

    Columns that are not named are guessed when obvious, and `notes` says so. Several text columns are joined by a
    blank line. With `labelled=False` labels are not read and texts may be empty; with `keep_blank=True` both are read
    and may be empty. With a `separator` a text has any number of labels, see labels.py.

    Raises:
        DataError: a file, a column or a row that cannot be used; names it and says what to do.
    """
    asked = [*text, *filter(None, (label, id, group, slice_by))]
    with open_table(path, options=options, asked=asked) as table:
        columns = choose_columns(
            table, text=text, label=label, id=id, group=group, slice_by=slice_by, labelled=labelled
        )
        return _collect(table, columns, filled=labelled and not keep_blank, separator=separator)


def from_frame(
    frame: Any,
    *,
    text: Sequence[str] = (),
    label: str | None = None,
    id: str | None = None,
    group: str | None = None,
    slice_by: str | None = None,
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
    columns = choose_columns(table, text=text, label=label, id=id, group=group, slice_by=slice_by, labelled=labelled)
    return _collect(table, columns, filled=labelled, separator=separator)


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


def warn_about_labels(labels: Iterable[str]) -> list[str]:
    """Sentences about labels that differ only by case or by space around them.

    >>> warn_about_labels(["spam", "spam", "Spam ", "ham"])
    ["'Spam ' (1 row) and 'spam' (2 rows) differ only by case or surrounding space and are taken as different labels"]
    """
    alike: dict[str, dict[str, int]] = {}
    for label, count in sorted(Counter(labels).items()):
        alike.setdefault(label.strip().casefold(), {})[label] = count
    return [
        " and ".join(f"{label!r} ({count} {'row' if count == 1 else 'rows'})" for label, count in found.items())
        + " differ only by case or surrounding space and are taken as different labels"
        for found in alike.values()
        if len(found) > 1
    ]


# Columns ----------------------------------------------------------------------------------------------------------


def choose_columns(
    table: Table,
    *,
    text: Sequence[str] = (),
    label: str | None = None,
    id: str | None = None,
    group: str | None = None,
    slice_by: str | None = None,
    labelled: bool = True,
) -> Columns:
    """Find the columns asked for, and guess those that are not when it is obvious.

    Obvious is a usual name ("message", "category") that no other column competes with, or the one column that is
    left. `labelled=False` looks for no label.

    Raises:
        DataError: a column that is not there, or no obvious one; lists the columns.
    """
    texts = (text,) if isinstance(text, str) else tuple(text)
    for name in filter(None, (*texts, label, id, group, slice_by)):
        _require(table, name)
    if label is not None and label in texts:
        raise DataError(f"--text and --label both name column {label!r} of {table.source}; name two columns")
    free = [name for name in table.header if name and name not in (*texts, label, id, group, slice_by)]
    notes = list(table.notes)
    guessed_text = None if texts else _known(free, TEXT_NAMES)
    guessed_label = label or _known([name for name in free if name != guessed_text], LABEL_NAMES)
    if guessed_text is None and not texts and not labelled and len(table.header) == 1:
        raise DataError(
            f"{table.source} has one column, {shown(table.header)}: if that is its name, pass it with --text; if it is "
            "the first of one text a line, give the file on stdin, with --input -"
        )
    if guessed_text is None and not texts:
        guessed_text = _only([name for name in free if name != guessed_label])
    if guessed_label is None and labelled and (texts or guessed_text):
        guessed_label = _only([name for name in free if name != guessed_text])
    if not texts:
        texts = (_obvious(table, guessed_text, "text", notes),)
    if label is None and labelled:
        label = _obvious(table, guessed_label, "label", notes)
    return Columns(texts, label if labelled else None, id, group, slice_by, tuple(notes))


def _known(names: list[str], usual: frozenset[str]) -> str | None:
    """The one column with a usual name; among several, the one called just "text" or "label"."""
    found = [name for name in names if name.strip().casefold() in usual]
    plain = [name for name in found if name.strip().casefold() in ("text", "label")]
    return _only(found) or _only(plain)


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _obvious(table: Table, guess: str | None, what: str, notes: list[str]) -> str:
    if guess is None:
        raise DataError(
            f"it is not obvious which column of {table.source} holds the {what}: it has {shown(table.header)}"
            f"; name it with --{what}{_header_hint(table.header)}"
        )
    if not table.headerless:
        notes.append(f"the {what} is read from column {guess!r} of {table.source} (--{what} names another)")
    return guess


def _header_hint(header: list[str]) -> str:
    """What may be wrong with a header in which nothing is recognised."""
    if len(header) == 1:
        separator = next((mark for mark in (";", "\t", ",", "|") if mark in header[0]), None)
        return f", or save the file with other separators, for it seems to use {separator!r}" if separator else ""
    return ", or put a line of column names above the first row if there is none"


def _require(table: Table, name: str) -> None:
    if name in table.header:
        return
    same = [known for known in table.header if known.strip().casefold() == name.strip().casefold()]
    hint = f"; did you mean {shown(same)}?" if same else nearest(name, table.header)
    raise DataError(f"{table.source} has no column {name!r}; it has {shown(table.header)}{hint}")


# Rows to examples -------------------------------------------------------------------------------------------------


def _collect(table: Table, columns: Columns, filled: bool, separator: str | None) -> Examples:
    """All rows; with `filled`, none may lack its text or its label (with a separator: it may have none)."""
    texts: list[str] = []
    labels: list[str] = []
    ids: list[str] = []
    groups: list[str] = []
    slices: list[str] = []
    one_object: dict[str, str] = {}  # equal labels share one string: 1,000,000 rows, two labels, two objects
    for row in table.rows(columns.names):
        text = columns.text_of(table, row)
        if filled and not text.strip():
            raise DataError(
                f"{table.place(row)} has no text in column {shown(columns.text)}; fill it in or remove the row"
            )
        texts.append(text)
        if columns.label is not None:
            label = _label_of(table, row, columns.label, separator)
            if filled and separator is None and not label.strip():
                raise DataError(
                    f"{table.place(row)} has no label in column {columns.label!r}; fill it in or remove the row"
                )
            labels.append(one_object.setdefault(label, label))
        if columns.id is not None:
            ids.append(table.cell(row, columns.id) or "")
        if columns.group is not None:
            groups.append(table.cell(row, columns.group) or "")
        if columns.slice_by is not None:
            value = table.cell(row, columns.slice_by) or ""
            slices.append(one_object.setdefault(value, value))
    return Examples(
        texts,
        labels if columns.label is not None else None,
        ids if columns.id is not None else None,
        groups if columns.group is not None else None,
        table.source,
        columns.notes,
        slices if columns.slice_by is not None else None,
        separator if columns.label is not None else None,
    )


def _label_of(table: Table, row: Row, column: str, separator: str | None) -> str:
    if separator is None:
        return table.cell(row, column) or ""
    try:
        return join_labels(row.values.get(column), separator)
    except (TypeError, UnicodeError) as error:
        raise DataError(f"{table.place(row)} has {error} in column {column!r}; labels are needed there") from error
