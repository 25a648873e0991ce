"""Which columns of a table are read: those that the user names, those of the training, or a guess that a note states.

header                  named     trained             chosen
title, abstract, note   title     abstract            title
title, abstract, note   -         abstract            abstract
title, note             -         abstract            title, with a note
title, note             -         title + abstract    error: abstract is missing
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from lasttoken.core.columns import SPLIT_COLUMNS, UNNAMED, ColumnSpec
from lasttoken.core.errors import DataError, nearest
from lasttoken.data.tables.table import LABEL_NAMES, TEXT_NAMES, Row, Table, listed

ID_NAME = re.compile(
    r"#|nr|no|num|number|row|line|key|(?:.*[^A-Za-z])?(?:id|ids|idx|index|uid|uuid|guid|key)|unnamed: *\d+"
    r"|__index_level_\d+__|(?-i:[A-Za-z]*[a-z](?:Id|ID|Idx|Index))",
    re.IGNORECASE,
)


class UnlabelledError(DataError):
    """A split without a label column; `fact` is the message without the advice."""

    def __init__(self, fact: str) -> None:
        super().__init__(f"{fact}; add the column, or leave the file out (predict classifies texts without labels)")
        self.fact = fact


@dataclass(frozen=True)
class Columns:
    """The chosen columns of a table with this `header`; `notes` say what was guessed."""

    spec: ColumnSpec
    notes: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    from_file: bool = True  # False: the file has no header, and the names of its columns are ours

    @property
    def remembered(self) -> ColumnSpec | None:
        """The text and label columns that a classifier looks for in other tables; None where the names are ours."""
        return ColumnSpec(self.spec.text, self.spec.label) if self.from_file else None

    def text_of(self, table: Table, row: Row) -> str:
        """The row's text: its text columns joined by a blank line; "" when all are missing."""
        names = self.spec.text
        if len(names) == 1:
            return table.cell(row, names[0]) or ""
        parts = [table.cell(row, name) or "" for name in names]
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
    """The columns that the user names, else those of the training, else a guess where it is obvious, stated in `notes`.

    A guess is obvious for a usual name ("message", "category") without a competitor, or for the only column left.

    Args:
        table: only its header is used.
        asked: columns that the user names; each must exist.
        labelled: whether to choose label columns.
        several: whether a text may have several labels, so that each label may have its column.
        trained: the text and label columns of the training, used where the table has all of them; where it has none,
            a guess is made.
        train_header: all columns of train, when the table is another split of the same data; its label is not guessed.

    Raises:
        UnlabelledError: another split than train, without train's label columns and without a candidate for them.
        DataError: a missing column, only some of the columns of the training, or no obvious column.
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
    spec = replace(asked, text=texts, label=label)
    return Columns(spec, tuple(notes), tuple(table.header), not table.headerless)


def _check_roles(table: Table, texts: Sequence[str], label: Sequence[str], several: bool) -> None:
    if len(label) > 1 and not several:
        raise DataError(
            f"--label names {listed(label)}, but a text has one label; name one column, or pass --multi-label if each "
            "column holds 0 or 1 for the label of its name"
        )
    if both := [name for name in label if name in texts]:
        raise DataError(f"--text and --label both name column {both[0]!r} of {table.source}; name two columns")


def _matches(table: Table, name: str) -> list[str]:
    """The column of this name, else those that differ in case, else in punctuation ("Review Body", "review_body")."""
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
        DataError: the table has some of them but not all, or two columns that match one of them.
    """
    candidates = {name: _matches(table, name) for name in trained}
    for name, columns in candidates.items():
        if len(columns) > 1:
            raise DataError(
                f"{table.source} has {listed(columns)}, and each may be {name!r}, the {role} of the training; "
                f"name one with --{role}"
            )
    matches = {name: _only(columns) for name, columns in candidates.items()}
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
            notes.append(f"column {column!r} of {table.source} is read as {name!r}, the column of the training")
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
    """A column with a usual name; else the only one left, unless the training had a label column with another name."""
    guess = _usual(free, LABEL_NAMES)
    if guess is None and not trained.label:
        guess = _only([name for name in free if not is_id_name(name)])
    return _obvious(table, guess, "label", trained.label, notes)


def is_id_name(name: str) -> bool:
    """Whether a column's name says that it numbers the rows, so that it cannot hold labels.

    >>> [name for name in ("id", "PhraseId", "row_id", "Unnamed: 0", "index", "valid", "squid") if is_id_name(name)]
    ['id', 'PhraseId', 'row_id', 'Unnamed: 0', 'index']
    """
    return ID_NAME.fullmatch(name.strip()) is not None


def _unlabelled(table: Table, free: list[str], trained: ColumnSpec, train_header: Collection[str]) -> DataError:
    """The error for a split that lacks the label columns of train."""
    rivals = [name for name in free if name not in train_header and not is_id_name(name)]
    sentence = f"{table.source} has no column {listed(trained.label)}, which holds the labels in train"
    if rivals:
        return DataError(
            f"{sentence}; it has {listed(table.header)}: rename the column that holds the labels, or remove the file "
            "if it has none"
        )
    return UnlabelledError(f"{sentence} (it has {listed(table.header)})")


def _usual(names: list[str], usual: frozenset[str]) -> str | None:
    """The only column with a usual name; among several, the only one called "text" or "label"."""
    candidates = [name for name in names if name.strip().casefold() in usual]
    plain = [name for name in candidates if name.strip().casefold() in ("text", "label")]
    return _only(candidates) or _only(plain)


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _obvious(table: Table, guess: str | None, role: str, trained: tuple[str, ...], notes: list[str]) -> str:
    absent = f", none of the columns the classifier was trained on ({listed(trained)})" if trained else ""
    if guess is None:
        raise DataError(
            f"it is not obvious which column of {table.source} holds the {role}: it has {listed(table.header)}{absent}"
            f"; name it with --{role}{_header_hint(table)}"
        )
    if trained and not _is_split_file(table):
        notes.append(
            f"{table.source} has none of the {role} columns of the training ({listed(trained)}): the {role} is read "
            f"from column {guess!r} (--{role} names another)"
        )
    elif not trained and not table.headerless:
        notes.append(f"the {role} is read from column {guess!r} of {table.source} (--{role} names another)")
    return guess


def _is_split_file(table: Table) -> bool:
    """Whether the columns are those of the split files that this program writes, so that their roles are certain."""
    return tuple(table.header[:2]) == (*SPLIT_COLUMNS.text, *SPLIT_COLUMNS.label)


def _header_hint(table: Table) -> str:
    """What may be wrong with a header in which no column is recognized."""
    header = table.header
    if table.separator is None or table.headerless:
        return ""
    if len(header) == 1:
        separators = (";", "\t", ",", "|", "^", "~", "\x01", ":")
        separator = next((separator for separator in separators if separator in header[0]), None)
        return f", or pass --separator, because the file seems to use {separator!r}" if separator else ""
    return ", or pass --no-header if the first line is not a line of column names"


def _require(table: Table, name: str) -> None:
    if name in table.header:
        return
    folded = [known for known in table.header if known.strip().casefold() == name.strip().casefold()]
    hint = f"; did you mean {listed(folded)}?" if folded else nearest(name, table.header)
    hint += _header_hint(table) if len(table.header) == 1 else ""
    raise DataError(f"{table.source} has no column {name!r}; it has {listed(table.header)}{hint}")
