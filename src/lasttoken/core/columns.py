"""Which columns hold what: as a user names them, and as a classifier remembers them.

--text title --text body --label topic   ──►  ColumnSpec(text=("title", "body"), label=("topic",))
config.json                              ──►  {"text": ["title", "body"], "label": ["topic"]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ColumnSpec:
    """Names of columns by their purpose; what is empty was not named.

    Several text columns are joined. Several label columns hold 0 or 1 each and are themselves the labels (multi-hot).
    """

    text: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    id: str | None = None
    group: str | None = None
    slice_by: str | None = None

    @property
    def names(self) -> list[str]:
        """All named columns, once each."""
        return list(dict.fromkeys([*self.text, *self.label, *filter(None, (self.id, self.group, self.slice_by))]))

    def to_json(self) -> dict[str, list[str]]:
        """The columns of texts and labels, which a classifier remembers."""
        return {"text": list(self.text), "label": list(self.label)}

    @classmethod
    def from_json(cls, value: Any) -> ColumnSpec | None:
        """The columns of texts and labels as `to_json` or a run's settings hold them; None where neither is named.

        Raises:
            TypeError: something else than names of columns.
        """
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise TypeError(f"columns are {value!r}, not a table of text and label")
        found = cls(column_names(value.get("text")), column_names(value.get("label")))
        return found if found.names else None


UNNAMED = ColumnSpec()  # every column is guessed
SPLIT_COLUMNS = ColumnSpec(("text",), ("label",))  # of the files of splits that we write


def column_names(value: Any) -> tuple[str, ...]:
    """Column names of a name, a list of names or None.

    >>> column_names("body"), column_names(["body", "title"]), column_names(None)
    (('body',), ('body', 'title'), ())

    Raises:
        TypeError: something else.
    """
    names = () if value is None else (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{value!r} is neither the name of a column nor a list of names")
    return tuple(names)


def names_in_frame(value: Any) -> Any:
    """A frame's column names as strings, as `column_names` wants them: integers are names too.

    >>> names_in_frame(0), names_in_frame(["title", 1]), names_in_frame("body")
    ('0', ['title', '1'], 'body')
    """
    if isinstance(value, list | tuple):
        return [names_in_frame(name) for name in value]
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value
