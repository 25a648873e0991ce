"""Rows become examples: texts with their labels, ids and groups.

    messages.csv ──open_table──► Table: header + Row, Row, …  ──read_examples──►  Examples
      text,label                   streamed                        texts  ["Win $1000!", "see you at 6"]
      Win $1000!,spam              values as they are              labels ["spam", "ham"]
      see you at 6,ham                                             notes  ("text is read from column 'text' …",)

formats.py lists the file formats, columns.py chooses the columns, and frames.py reads tables in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from lasttoken.core.columns import UNNAMED, ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.data.blanks import FILL_IN, BlankRows, LeftOut, missing_part
from lasttoken.data.columns import Columns, choose_columns
from lasttoken.data.labels import join_labels, listed_choices, single_label
from lasttoken.data.multihot import HotLists, labels_of_columns
from lasttoken.data.tables.opening import open_table
from lasttoken.data.tables.options import DEFAULT, ReadOptions
from lasttoken.data.tables.table import Row, Table, listed

T = TypeVar("T")


@dataclass(frozen=True)
class Examples:
    """N texts, optionally with labels, ids, groups and slices: lists of length N, or None.

    `source` names the file or table, for messages; `notes` are sentences about what was guessed or merged.
    """

    texts: list[str]
    labels: list[str] | None = None
    ids: list[str] | None = None
    groups: list[str] | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    slices: list[str] | None = None  # values of the column by which errors are broken down
    separator: str | None = None  # between the labels of a text, see labels.py; None: every text has one label
    columns: Columns | None = field(default=None, compare=False)  # from which they were read
    numbers: list[int] | None = None  # row numbers in the source, from 1; None: 1 to N
    left_out: LeftOut | None = None  # rows of the source without a text or a label

    def __len__(self) -> int:
        return len(self.texts)

    def number_of(self, index: int) -> int:
        """The row number of an example in its source, from 1."""
        return index + 1 if self.numbers is None else self.numbers[index]

    def take(self, indices: Iterable[int]) -> Examples:
        """The examples at these indices, in the order of the indices."""
        rows = list(indices)

        def at_rows(values: list[T] | None) -> list[T] | None:
            return None if values is None else [values[row] for row in rows]

        return replace(
            self,
            texts=[self.texts[row] for row in rows],
            labels=at_rows(self.labels),
            ids=at_rows(self.ids),
            groups=at_rows(self.groups),
            slices=at_rows(self.slices),
            numbers=at_rows(self.numbers),
        )


def read_examples(
    path: str | Path,
    asked: ColumnSpec = UNNAMED,
    *,
    options: ReadOptions = DEFAULT,
    labelled: bool = True,
    keep_blank: bool = False,
    separator: str | None = None,
    trained: ColumnSpec | None = None,
    train_header: Collection[str] | None = None,
) -> Examples:
    """Read a file of examples, in one of the formats of formats.py.

    Several text columns are joined by a blank line; several label columns are multi-hot, see multihot.py. Rows without
    a text or a label are left out; `notes` and `left_out` say how many.

    Args:
        path: the file.
        asked: the columns that the user names; others are guessed where that is obvious, which `notes` say.
        options: how the file is read; with `strict`, the first row without a text or a label is an error.
        labelled: read labels; without, texts may be empty.
        keep_blank: keep rows without a text or a label.
        separator: with one, a text has any number of labels, see labels.py.
        trained: see `choose_columns`.
        train_header: see `choose_columns`.

    Raises:
        DataError: a file, a column or a row that cannot be used, or no row with a text and a label.
    """
    named = [*asked.names, *(trained or UNNAMED).names]
    with open_table(path, options=options, asked=named, labelled=labelled) as table:
        columns = choose_columns(
            table, asked, labelled=labelled, several=separator is not None, trained=trained, train_header=train_header
        )
        blanks = BlankRows(table.source, options.strict) if labelled and not keep_blank else None
        return collect_examples(table, columns, blanks, separator)


# Rows to examples -------------------------------------------------------------------------------------------------


def without_blanks(examples: Examples, place: Callable[[int], str], strict: bool) -> Examples:
    """Labelled examples, without those that have no text or no label; `place` names the row at an index.

    Raises:
        DataError: no example is left, or with `strict` any would be left out.
    """
    blanks, complete = BlankRows(examples.source, strict), []
    for index, (text, label) in enumerate(zip(examples.texts, examples.labels or (), strict=True)):
        if missing := missing_part(text, None if examples.separator is not None else label):
            value = text if missing == "text" else label
            blanks.leave_out(missing, place(index), f"{place(index)} has {value!r} as its {missing}; {FILL_IN}")
        else:
            complete.append(index)
    left_out = blanks.result(len(examples))
    if left_out is None:
        return examples
    numbered = replace(examples, numbers=[index + 1 for index in range(len(examples))])
    return replace(numbered.take(complete), left_out=left_out, notes=(*examples.notes, *left_out.sentences()))


def collect_examples(table: Table, columns: Columns, blanks: BlankRows | None, separator: str | None) -> Examples:
    """All rows; with `blanks`, without those that lack a text or a label (with a separator, rows may lack a label).

    Raises:
        DataError: a value that cannot be used, lists of 0 and 1 as labels, or rows that are all left out.
    """
    spec = columns.spec
    values = _ColumnValues(spec)
    n_rows = 0
    hot_lists = HotLists() if len(spec.label) == 1 and separator is not None else None
    for row in table.rows(spec.names):
        n_rows += 1
        text, label = columns.text_of(table, row), None
        missing = missing_part(text, None) if blanks is not None else None
        if hot_lists is not None and not hot_lists.add(row.values.get(spec.label[0])):
            hot_lists = None
        if spec.label and missing is None:
            label = _label_of(table, row, spec.label, separator)
            missing = missing_part(text, label) if blanks is not None and separator is None else None
        if blanks is not None and missing is not None:
            place, names = table.place(row), spec.text if missing == "text" else spec.label
            blanks.leave_out(missing, place, f"{place} has no {missing} in column {listed(names)}; {FILL_IN}")
        else:
            values.add(table, row, text, label)
    if hot_lists is not None:
        _reject_hot_lists(hot_lists, spec.label[0], table.source)
    left_out = blanks.result(n_rows) if blanks is not None else None
    notes = (*columns.notes, *table.late_notes, *(left_out.sentences() if left_out else ()))
    return replace(
        values.examples(),
        source=table.source,
        notes=notes,
        separator=separator if spec.label else None,
        columns=columns,
        left_out=left_out,
    )


def _reject_hot_lists(hot_lists: HotLists, column: str, source: str) -> None:
    """Reject a label column with a list of 0 and 1 in each row.

    Raises:
        DataError: names the column.
    """
    if hot_lists.are_all:
        raise DataError(
            f"column {column!r} of {source} has a list of 0 and 1 in each row, which does not name the labels; write "
            "the names of a row's labels, or give each label a column"
        )


class _ColumnValues:
    """The texts, labels, ids, groups and slices of the rows that become examples."""

    def __init__(self, spec: ColumnSpec) -> None:
        self._spec = spec
        self._texts: list[str] = []
        self._labels: list[str] = []
        self._ids: list[str] = []
        self._groups: list[str] = []
        self._slices: list[str] = []
        self._numbers: list[int] | None = None  # recorded only from the first missing row on
        self._interned: dict[str, str] = {}  # equal labels share one string: 1,000,000 rows, two labels, two objects

    def add(self, table: Table, row: Row, text: str, label: str | None) -> None:
        """Add a row."""
        if self._numbers is None and row.number > len(self._texts) + 1:
            self._numbers = list(range(1, len(self._texts) + 1))
        self._texts.append(text)
        if self._numbers is not None:
            self._numbers.append(row.number)
        if label is not None:
            self._labels.append(self._interned.setdefault(label, label))
        if self._spec.id is not None:
            self._ids.append(table.cell(row, self._spec.id) or "")
        if self._spec.group is not None:
            self._groups.append(table.cell(row, self._spec.group) or "")
        if self._spec.slice_by is not None:
            value = table.cell(row, self._spec.slice_by) or ""
            self._slices.append(self._interned.setdefault(value, value))

    def examples(self) -> Examples:
        """The rows as examples."""
        return Examples(
            self._texts,
            self._labels if self._spec.label else None,
            self._ids if self._spec.id is not None else None,
            self._groups if self._spec.group is not None else None,
            slices=self._slices if self._spec.slice_by is not None else None,
            numbers=self._numbers,
        )


def _label_of(table: Table, row: Row, columns: Sequence[str], separator: str | None) -> str:
    if len(columns) > 1 and separator is not None:
        return labels_of_columns(table, row, columns, separator)
    column = columns[0]
    if separator is None:
        return _single_label_of(table, row, column)
    try:
        return join_labels(row.values.get(column), separator)
    except (TypeError, UnicodeError) as error:
        raise DataError(f"{table.place(row)} has {error} in column {column!r}, which must hold labels") from error


def _single_label_of(table: Table, row: Row, column: str) -> str:
    value = listed_choices(row.values.get(column))
    if not isinstance(value, list):
        return table.cell(row, column) or ""
    try:
        return single_label(value)
    except (TypeError, UnicodeError) as error:
        raise DataError(f"{table.place(row)} has {error} in column {column!r}, which must hold a label") from error
