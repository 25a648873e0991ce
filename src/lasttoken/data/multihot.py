"""A column for each label: the cells say whether a text has it (multi-hot, as in files of toxic comments).

comment_text,toxic,threat,insult
you fool,1,0,1                      ──►  "insult|toxic"
"""

from __future__ import annotations

from collections.abc import Sequence

from lasttoken.data.labels import join_labels
from lasttoken.data.tables import Row, Table
from lasttoken.errors import DataError

YES = frozenset(("1", "1.0", "true", "yes", "y", "t"))
NO = frozenset(("0", "0.0", "false", "no", "n", "f"))


def labels_of_columns(table: Table, row: Row, columns: Sequence[str], separator: str) -> str:
    """The names of the columns whose cell says yes, joined in the written form of labels.py.

    Raises:
        DataError: a cell that is neither yes nor no, or a name that holds the separator; names the row and the column.
    """
    given = []
    for column in columns:
        cell = (table.cell(row, column) or "").strip().casefold()
        if cell in YES:
            given.append(column)
        elif cell not in NO:
            raise DataError(
                f"{table.place(row)} has {row.values.get(column)!r} in column {column!r}; with several label columns a "
                "cell must be 0 or 1, true or false, yes or no"
            )
    try:
        return join_labels(given, separator)
    except TypeError as error:
        raise DataError(f"{table.source} has a label column with {error}") from error
