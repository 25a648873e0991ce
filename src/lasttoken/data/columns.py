"""Which columns of a table are read: those asked for, those of the training, or a guess that is said.

header                  asked     trained             chosen
title, abstract, note   title     abstract            title
title, abstract, note   -         abstract            abstract
title, note             -         abstract            title, with a note
title, note             -         title + abstract    refused: abstract is missing
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lasttoken.core.columns import UNNAMED, ColumnSpec
from lasttoken.core.errors import DataError, nearest
from lasttoken.data.tables import LABEL_NAMES, TEXT_NAMES, Row, Table, listed

ID_NAME = re.compile(
    r"#|nr|no|num|number|row|line|key|(?:.*[^A-Za-z])?(?:id|ids|idx|index|uid|uuid|guid|key)|unnamed: *\d+"
    r"|__index_level_\d+__|(?-i:[A-Za-z]*[a-z](?:Id|ID|Idx|Index))",
    re.IGNORECASE,
)


class UnlabelledError(DataError):
    """A split without a column of labels; `fact` is what was found, without the advice."""

    def __init__(self, fact: str) -> None:
        super().__init__(f"{fact}; add the column, or leave the file out (predict classifies texts without labels)")
        self.fact = fact


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
    def remembered(self) -> ColumnSpec | None:
        """The text and label columns that a classifier looks for in other tables; None where the names are ours."""
        return ColumnSpec(self.text, self.label) if self.named else None

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
    table: Table,
    asked: ColumnSpec = UNNAMED,
    *,
    labelled: bool = True,
    several: bool = False,
    trained: ColumnSpec | None = None,
    train_header: Collection[str] | None = None,
) -> Columns:
    """The columns asked for; else those of the training; else a guess when it is obvious, which `notes` says.

    Obvious is a usual name ("message", "category") that no other column competes with, or the one column that is left.

    Args:
        table: only its header is used.
        asked: columns that the user names; each must be there.
        labelled: whether to look for labels.
        several: whether a text may have several labels, so that there may be a column for each.
        trained: the text and label columns of the training. They are taken where the table has them all; a guess is
            made where it has none of them.
        train_header: all columns of train, when the table is another split of the same data. Its label is not guessed.

    Raises:
        UnlabelledError: another split than train without train's label columns, and no other that may be meant.
        DataError: a column that is not there, some but not all columns of the training, or no obvious column.
    """
    for name in asked.names:
        _require(table, name)
    notes = list(table.notes)
    trained = trained or UNNAMED
    texts = asked.text or _recalled(table, trained.text, "text", notes)
    label = asked.label or (_recalled(table, trained.label, "label", notes) if labelled else ())
    _check_roles(table, texts, label, several)
    labels_elsewhere = () if label else tuple(match for name in trained.label for match in _matches(table, name))
    taken = {*asked.names, *texts, *label, *labels_elsewhere}
    free = [name for name in table.header if name and name not in taken]
    if not texts:
        texts = (_guessed_text(table, free, trained, labelled, notes),)
    if labelled and not label:
        free = [name for name in free if name not in texts]
        if trained.label and train_header is not None:
            raise _unlabelled(table, free, trained, train_header)
        label = (_guessed_label(table, free, trained, notes),)
    return Columns(
        texts,
        label,
        asked.id,
        asked.group,
        asked.slice_by,
        tuple(notes),
        tuple(table.header),
        not table.headerless,
    )


def _check_roles(table: Table, texts: Sequence[str], label: Sequence[str], several: bool) -> None:
    if len(label) > 1 and not several:
        raise DataError(
            f"--label names {listed(label)}, and a text has one label; name one column, or pass --multi-label where "
            "each column holds 0 or 1 for the label of its name"
        )
    if both := [name for name in label if name in texts]:
        raise DataError(f"--text and --label both name column {both[0]!r} of {table.source}; name two columns")


def _matches(table: Table, name: str) -> list[str]:
    """The column of this name; else those that differ by case, or else by spaces and signs, as "Review Body" does from
    "review_body".
    """
    if name in table.header:
        return [name]
    folded = [known for known in table.header if known.strip().casefold() == name.strip().casefold()]
    key = _letters(name)
    return folded or [known for known in table.header if key and _letters(known) == key]


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).casefold()))


def _recalled(table: Table, trained: tuple[str, ...], role: str, notes: list[str]) -> tuple[str, ...]:
    """The columns of the training as the table spells them; () where it has none of them.

    Raises:
        DataError: it has some of them, but not all, or two that may be one of them.
    """
    found = {name: _matches(table, name) for name in trained}
    for name, columns in found.items():
        if len(columns) > 1:
            raise DataError(
                f"{table.source} has {listed(columns)}, and each may be {name!r}, the {role} of the training; name one "
                f"with --{role}"
            )
    matches = {name: _only(columns) for name, columns in found.items()}
    missing = [name for name, column in matches.items() if column is None]
    if missing and len(missing) < len(trained):
        raise DataError(
            f"{table.source} has no column {listed(missing)}, and the classifier was trained on the {role} of "
            f"{listed(trained)} together; add the column, or name the columns with --{role}"
        )
    if missing:
        return ()
    for name, column in matches.items():
        if column != name:
            notes.append(f"column {column!r} of {table.source} is taken for {name!r}, which the training read")
    return tuple(column for column in matches.values() if column is not None)


def _guessed_text(table: Table, free: list[str], trained: ColumnSpec, labelled: bool, notes: list[str]) -> str:
    usual = _usual(free, TEXT_NAMES)
    if usual is None and not labelled and len(table.header) == 1:
        raise DataError(
            f"{table.source} has one column, {listed(table.header)}: if that is its name, pass it with --text; if "
            "the file has one text a line, pass --format txt"
        )
    if usual is None:
        label = _usual(free, LABEL_NAMES)
        usual = _only([name for name in free if name != label and not is_id_name(name)])
    return _obvious(table, usual, "text", trained.text, notes)


def _guessed_label(table: Table, free: list[str], trained: ColumnSpec, notes: list[str]) -> str:
    """A usual name; the only column that is left, unless the training read its labels from a column of another name."""
    guess = _usual(free, LABEL_NAMES)
    if guess is None and not trained.label:
        guess = _only([name for name in free if not is_id_name(name)])
    return _obvious(table, guess, "label", trained.label, notes)


def is_id_name(name: str) -> bool:
    """Whether a column's name says that it numbers the rows, so that it holds no labels.

    >>> [name for name in ("id", "PhraseId", "row_id", "Unnamed: 0", "index", "valid", "squid") if is_id_name(name)]
    ['id', 'PhraseId', 'row_id', 'Unnamed: 0', 'index']
    """
    return ID_NAME.fullmatch(name.strip()) is not None


def _unlabelled(table: Table, free: list[str], trained: ColumnSpec, train_header: Collection[str]) -> DataError:
    """What to say of a split that lacks the label columns of train."""
    rivals = [name for name in free if name not in train_header and not is_id_name(name)]
    sentence = f"{table.source} has no column {listed(trained.label)}, which train has its labels in"
    if rivals:
        return DataError(
            f"{sentence}; it has {listed(table.header)}: rename the column that holds the labels, or remove the file "
            "if it has none"
        )
    return UnlabelledError(f"{sentence} (it has {listed(table.header)})")


def _usual(names: list[str], usual: frozenset[str]) -> str | None:
    """The one column with a usual name; among several, the one called just "text" or "label"."""
    found = [name for name in names if name.strip().casefold() in usual]
    plain = [name for name in found if name.strip().casefold() in ("text", "label")]
    return _only(found) or _only(plain)


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _obvious(table: Table, guess: str | None, role: str, trained: tuple[str, ...], notes: list[str]) -> str:
    absent = f", none of the columns the classifier was trained on ({listed(trained)})" if trained else ""
    if guess is None:
        raise DataError(
            f"it is not obvious which column of {table.source} holds the {role}: it has {listed(table.header)}{absent}"
            f"; name it with --{role}{_header_hint(table)}"
        )
    if trained:
        notes.append(
            f"{table.source} has none of the {role} columns of the training ({listed(trained)}): the {role} is read "
            f"from column {guess!r} (--{role} names another)"
        )
    elif not table.headerless:
        notes.append(f"the {role} is read from column {guess!r} of {table.source} (--{role} names another)")
    return guess


def _header_hint(table: Table) -> str:
    """What may be wrong with a header in which nothing is recognised."""
    header = table.header
    if table.separator is None or table.headerless:
        return ""
    if len(header) == 1:
        separator = next((mark for mark in (";", "\t", ",", "|", "^", "~", "\x01", ":") if mark in header[0]), None)
        return f", or the separator with --separator, for the file seems to use {separator!r}" if separator else ""
    return ", or pass --no-header if the first line is not a line of column names"


def _require(table: Table, name: str) -> None:
    if name in table.header:
        return
    same = [known for known in table.header if known.strip().casefold() == name.strip().casefold()]
    hint = f"; did you mean {listed(same)}?" if same else nearest(name, table.header)
    hint += _header_hint(table) if len(table.header) == 1 else ""
    raise DataError(f"{table.source} has no column {name!r}; it has {listed(table.header)}{hint}")
