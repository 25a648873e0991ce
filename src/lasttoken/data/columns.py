"""The columns of a table: those that were asked for, or a guess that is said."""

from __future__ import annotations

from dataclasses import dataclass

from lasttoken.columns import UNNAMED, ColumnSpec
from lasttoken.data.tables import LABEL_NAMES, TEXT_NAMES, Row, Table, shown
from lasttoken.errors import DataError, nearest


@dataclass(frozen=True)
class Columns:
    """Which column is what; `notes` says what was guessed. `header`: all columns of the table."""

    text: tuple[str, ...]
    label: tuple[str, ...] = ()  # several: a column for each label, which holds 0 or 1
    id: str | None = None
    group: str | None = None
    slice_by: str | None = None
    notes: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    named: bool = True  # whether the names are the file's own; a file without a header gets ours

    @property
    def spec(self) -> ColumnSpec:
        """The columns by their purpose."""
        return ColumnSpec(self.text, self.label, self.id, self.group, self.slice_by)

    @property
    def names(self) -> list[str]:
        """All chosen columns, once each."""
        return self.spec.names

    def text_of(self, table: Table, row: Row) -> str:
        """The row's text: its text columns joined by a blank line; "" when all are missing."""
        if len(self.text) == 1:
            return table.cell(row, self.text[0]) or ""
        parts = [table.cell(row, name) or "" for name in self.text]
        return "\n\n".join(part for part in parts if part.strip())


def choose_columns(
    table: Table, asked: ColumnSpec = UNNAMED, *, labelled: bool = True, several: bool = False
) -> Columns:
    """Find the columns asked for, and guess those that are not when it is obvious.

    Obvious is a usual name ("message", "category") that no other column competes with, or the one column that is
    left. `labelled=False` looks for no label. `several`: whether a text may have several labels, so that there may be a
    column for each.

    Raises:
        DataError: a column that is not there, or no obvious one; lists the columns.
    """
    texts, label = asked.text, asked.label
    for name in asked.names:
        _require(table, name)
    if len(label) > 1 and not several:
        raise DataError(
            f"--label names {shown(label)}, and a text has one label; name one column, or pass --multi-label where "
            "each column holds 0 or 1 for the label of its name"
        )
    if both := [name for name in label if name in texts]:
        raise DataError(f"--text and --label both name column {both[0]!r} of {table.source}; name two columns")
    free = [name for name in table.header if name and name not in asked.names]
    notes = list(table.notes)
    guessed_text = None if texts else _known(free, TEXT_NAMES)
    guessed_label = None if label else _known([name for name in free if name != guessed_text], LABEL_NAMES)
    if guessed_text is None and not texts and not labelled and len(table.header) == 1:
        raise DataError(
            f"{table.source} has one column, {shown(table.header)}: if that is its name, pass it with --text; if it is "
            "the first of one text a line, give the file on stdin, with --input -"
        )
    if guessed_text is None and not texts:
        guessed_text = _only([name for name in free if name != guessed_label])
    if guessed_label is None and not label and labelled and (texts or guessed_text):
        guessed_label = _only([name for name in free if name != guessed_text])
    if not texts:
        texts = (_obvious(table, guessed_text, "text", notes),)
    if not label and labelled:
        label = (_obvious(table, guessed_label, "label", notes),)
    return Columns(
        texts,
        label if labelled else (),
        asked.id,
        asked.group,
        asked.slice_by,
        tuple(notes),
        tuple(table.header),
        not table.headerless,
    )


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
