"""Files of texts, read as examples: CSV, TSV, JSONL and Parquet become one shape.

    messages.csv ──open_table──► Table: header + Row, Row, …  ──read_examples──►  Examples
      text,label                   streamed, nothing kept          texts  ["Win $1000!", "see you at 6"]
      Win $1000!,spam              values as they were             labels ["spam", "ham"]
      see you at 6,ham                                             notes  ("text is read from column 'text' …",)

Which file formats there are is tables.py's concern, which column is which columns.py's, and what Python hands over
from memory frames.py's; here rows become examples.
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
from lasttoken.data.opening import open_table
from lasttoken.data.options import DEFAULT, ReadOptions
from lasttoken.data.tables import Row, Table, listed

T = TypeVar("T")


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
    columns: Columns | None = field(default=None, compare=False)  # where they were read from
    numbers: list[int] | None = None  # of the rows in the source, from 1; None: 1 to N
    left_out: LeftOut | None = None  # rows of the source that are not among these

    def __len__(self) -> int:
        return len(self.texts)

    def number_of(self, index: int) -> int:
        """The number, from 1, that the row of an example has in its source."""
        return index + 1 if self.numbers is None else self.numbers[index]

    def take(self, indices: Iterable[int]) -> Examples:
        """The examples at these indices, in their order."""
        at = list(indices)

        def taken(values: list[T] | None) -> list[T] | None:
            return None if values is None else [values[i] for i in at]

        return replace(
            self,
            texts=[self.texts[i] for i in at],
            labels=taken(self.labels),
            ids=taken(self.ids),
            groups=taken(self.groups),
            slices=taken(self.slices),
            numbers=taken(self.numbers),
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
    """Read a file of examples: .csv, .tsv, .txt or no suffix (tab-separated), .jsonl, each also .gz, and .parquet.

    Columns that are not named are guessed when obvious, and `notes` says so. Several text columns are joined by a
    blank line; several label columns are multi-hot, see multihot.py. Rows without a text or a label are left out, and
    `notes` and `left_out` say how many; with `options.strict` the first is an error. With `labelled=False` labels are
    not read and texts may be empty; with `keep_blank=True` both are read and may be empty. With a `separator` a text
    has any number of labels, see labels.py. `trained` and `train_header`: see `choose_columns`.

    Raises:
        DataError: a file, a column or a row that cannot be used, or no row with a text and a label; names it and says
            what to do.
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
    """Labelled examples without those that have no text or no label; `place` names the one at an index.

    Raises:
        DataError: all of them, or with `strict` any.
    """
    blanks, kept = BlankRows(examples.source, strict), []
    for index, (text, label) in enumerate(zip(examples.texts, examples.labels or (), strict=True)):
        if missing := missing_part(text, None if examples.separator is not None else label):
            value = text if missing == "text" else label
            blanks.leave_out(missing, place(index), f"{place(index)} has {value!r} as its {missing}; {FILL_IN}")
        else:
            kept.append(index)
    left_out = blanks.result(len(examples))
    if left_out is None:
        return examples
    numbered = replace(examples, numbers=[index + 1 for index in range(len(examples))])
    return replace(numbered.take(kept), left_out=left_out, notes=(*examples.notes, *left_out.sentences()))


def collect_examples(table: Table, columns: Columns, blanks: BlankRows | None, separator: str | None) -> Examples:
    """All rows; with `blanks`, without those that lack their text or their label (with a separator it may lack any)."""
    texts: list[str] = []
    labels: list[str] = []
    ids: list[str] = []
    groups: list[str] = []
    slices: list[str] = []
    numbers: list[int] | None = None  # only kept from the first row on that is missing
    n_rows = 0
    hot = HotLists() if len(columns.label) == 1 and separator is not None else None
    one_object: dict[str, str] = {}  # equal labels share one string: 1,000,000 rows, two labels, two objects
    for row in table.rows(columns.names):
        n_rows += 1
        text, label = columns.text_of(table, row), None
        missing = missing_part(text, None) if blanks is not None else None
        if hot is not None and not hot.see(row.values.get(columns.label[0])):
            hot = None
        if columns.label and missing is None:
            label = _label_of(table, row, columns.label, separator)
            missing = missing_part(text, label) if blanks is not None and separator is None else None
        if blanks is not None and missing is not None:
            place, names = table.place(row), columns.text if missing == "text" else columns.label
            blanks.leave_out(missing, place, f"{place} has no {missing} in column {listed(names)}; {FILL_IN}")
            continue
        if numbers is None and row.number > len(texts) + 1:
            numbers = list(range(1, len(texts) + 1))
        texts.append(text)
        if numbers is not None:
            numbers.append(row.number)
        if label is not None:
            labels.append(one_object.setdefault(label, label))
        if columns.id is not None:
            ids.append(table.cell(row, columns.id) or "")
        if columns.group is not None:
            groups.append(table.cell(row, columns.group) or "")
        if columns.slice_by is not None:
            value = table.cell(row, columns.slice_by) or ""
            slices.append(one_object.setdefault(value, value))
    if hot is not None and hot.are_all:
        raise DataError(
            f"column {columns.label[0]!r} of {table.source} has a list of 0 and 1 in each row, which does not say "
            "what the labels are called; write the names of a row's labels, or give each label a column of its own"
        )
    left_out = blanks.result(n_rows) if blanks is not None else None
    return Examples(
        texts,
        labels if columns.label else None,
        ids if columns.id is not None else None,
        groups if columns.group is not None else None,
        table.source,
        (*columns.notes, *table.late_notes, *(left_out.sentences() if left_out else ())),
        slices if columns.slice_by is not None else None,
        separator if columns.label else None,
        columns,
        numbers,
        left_out,
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
        raise DataError(f"{table.place(row)} has {error} in column {column!r}; labels are needed there") from error


def _single_label_of(table: Table, row: Row, column: str) -> str:
    value = listed_choices(row.values.get(column))
    if not isinstance(value, list):
        return table.cell(row, column) or ""
    try:
        return single_label(value)
    except (TypeError, UnicodeError) as error:
        raise DataError(f"{table.place(row)} has {error} in column {column!r}; a label is needed there") from error
