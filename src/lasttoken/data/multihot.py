"""Multi-hot labels: a column for each label, whose cells say whether a text has the label.

comment_text,toxic,threat,insult
you fool,1,0,1                      ──►  "insult|toxic"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lasttoken.core.errors import DataError
from lasttoken.data.labels import join_labels
from lasttoken.data.tables.table import Row, Table

HOT_LIST = re.compile(r"\s*\[\s*[01](?:\.0*)?(?:[\s,]+[01](?:\.0*)?)+\s*\]\s*")  # "[0, 1]", as a cell of CSV
YES = frozenset(("1", "1.0", "true", "yes", "y", "t"))
NO = frozenset(("0", "0.0", "false", "no", "n", "f"))


def labels_of_columns(table: Table, row: Row, columns: Sequence[str], separator: str) -> str:
    """The names of the columns whose cell says yes, joined as labels.py joins labels.

    Raises:
        DataError: a cell that is neither yes nor no, or a column name that contains the separator.
    """
    labels = []
    for column in columns:
        cell = (table.cell(row, column) or "").strip().casefold()
        if cell in YES:
            labels.append(column)
        elif cell not in NO:
            raise DataError(
                f"{table.place(row)} has {row.values.get(column)!r} in column {column!r}; with several label columns a "
                "cell must be 0 or 1, true or false, yes or no"
            )
    try:
        return join_labels(labels, separator)
    except TypeError as error:
        raise DataError(f"{table.source} has a label column with {error}") from error


class HotLists:
    """Detects labels that are all lists of 0 and 1 of one length, which do not name the labels."""

    def __init__(self) -> None:
        self._widths: set[int] = set()
        self._n_rows = 0

    def add(self, value: Any) -> bool:
        """Add the next row's value; return whether all values may be such lists. After a False, no more are needed."""
        if value is None:
            return True
        if hasattr(value, "tolist"):
            value = value.tolist()
        if isinstance(value, str):
            value = [0 for _ in re.findall(r"[01](?:\.0*)?", value)] if HOT_LIST.fullmatch(value) else None
        is_hot = isinstance(value, list | tuple) and all(
            type(item) in (int, float, bool) and item in (0, 1) for item in value
        )
        self._widths.add(len(value) if is_hot else 0)
        self._n_rows += 1
        return len(self._widths) == 1 and min(self._widths) > 1

    @property
    def are_all(self) -> bool:
        """Whether there were at least two rows, and all had such lists."""
        return self._n_rows > 1 and len(self._widths) == 1 and min(self._widths) > 1
