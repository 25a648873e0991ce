"""Files of texts, read as examples: CSV, TSV, JSONL and Parquet become one shape.

    messages.csv ──open_table──► Table: header + Row, Row, …  ──read_examples──►  Examples
      text,label                   streamed, nothing kept          texts  ["Win $1000!", "see you at 6"]
      Win $1000!,spam              values as they were             labels ["spam", "ham"]
      see you at 6,ham                                             notes  ("text is read from column 'text' …",)

Which file formats there are is tables.py's concern, which column is which columns.py's, and what Python hands over
from memory frames.py's; here rows become examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lasttoken.columns import UNNAMED, ColumnSpec
from lasttoken.data.columns import Columns, choose_columns
from lasttoken.data.labels import join_labels, single_label
from lasttoken.data.multihot import labels_of_columns
from lasttoken.data.opening import open_table
from lasttoken.data.options import DEFAULT, ReadOptions
from lasttoken.data.tables import Row, Table, shown
from lasttoken.errors import DataError


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
    blank line; several label columns are multi-hot, see multihot.py. With `labelled=False` labels are not read and
    texts may be empty; with `keep_blank=True` both are read and may be empty. With a `separator` a text has any number
    of labels, see labels.py. `trained` and `train_header`: see `choose_columns`.

    Raises:
        DataError: a file, a column or a row that cannot be used; names it and says what to do.
    """
    named = [*asked.names, *(trained or UNNAMED).names]
    with open_table(path, options=options, asked=named, labelled=labelled) as table:
        columns = choose_columns(
            table, asked, labelled=labelled, several=separator is not None, trained=trained, train_header=train_header
        )
        return collect_examples(table, columns, filled=labelled and not keep_blank, separator=separator)


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


# Rows to examples -------------------------------------------------------------------------------------------------


def collect_examples(table: Table, columns: Columns, filled: bool, separator: str | None) -> Examples:
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
        if columns.label:
            label = _label_of(table, row, columns.label, separator)
            if filled and separator is None and not label.strip():
                raise DataError(
                    f"{table.place(row)} has no label in column {columns.label[0]!r}; fill it in or remove the row"
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
        labels if columns.label else None,
        ids if columns.id is not None else None,
        groups if columns.group is not None else None,
        table.source,
        (*columns.notes, *table.late_notes),
        slices if columns.slice_by is not None else None,
        separator if columns.label else None,
        columns,
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
    value = row.values.get(column)
    if not isinstance(value, list):
        return table.cell(row, column) or ""
    try:
        return single_label(value)
    except (TypeError, UnicodeError) as error:
        raise DataError(f"{table.place(row)} has {error} in column {column!r}; a label is needed there") from error
