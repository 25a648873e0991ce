"""The columns of a table by their purpose: as the user names them, and as a classifier stores them.

--text title --text body --label topic   ──►  ColumnSpec(text=("title", "body"), label=("topic",))
config.json                              ──►  {"text": ["title", "body"], "label": ["topic"]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ColumnSpec:
    """The names of columns by their purpose; an empty field means that the user named no column.

    Several text columns are joined. Several label columns contain 0 or 1 each, and their names are the labels
    (multi-hot encoding).
    """

    text: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    id: str | None = None
    group: str | None = None
    slice_by: str | None = None

    @property
    def names(self) -> list[str]:
        """All columns that are named, without repetitions."""
        return list(dict.fromkeys([*self.text, *self.label, *filter(None, (self.id, self.group, self.slice_by))]))

    def to_json(self) -> dict[str, list[str]]:
        """The text and label columns, as a classifier's config.json stores them."""
        return {"text": list(self.text), "label": list(self.label)}

    @classmethod
    def from_json(cls, value: Any) -> ColumnSpec | None:
        """The text and label columns from `to_json` or from a run's settings; None if neither is named.

        Raises:
            TypeError: a value that is not made of column names.
        """
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise TypeError(f"columns are {value!r}, not a table of text and label")
        spec = cls(column_names(value.get("text")), column_names(value.get("label")))
        return spec if spec.names else None


UNNAMED = ColumnSpec()  # no column is named, so each is guessed
SPLIT_COLUMNS = ColumnSpec(("text",), ("label",))  # the columns of split files that this program writes


def column_names(value: Any) -> tuple[str, ...]:
    """Column names from a name, a list of names or None.

    >>> column_names("body"), column_names(["body", "title"]), column_names(None)
    (('body',), ('body', 'title'), ())

    Raises:
        TypeError: any other value.
    """
    names = () if value is None else (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{value!r} is neither a column name nor a list of column names")
    return tuple(names)


def names_in_frame(value: Any) -> Any:
    """Column names of a data frame as strings, as `column_names` takes them; pandas also has integers as names.

    >>> names_in_frame(0), names_in_frame(["title", 1]), names_in_frame("body")
    ('0', ['title', '1'], 'body')
    """
    if isinstance(value, list | tuple):
        return [names_in_frame(name) for name in value]
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value
