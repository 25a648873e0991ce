"""What an audit records: rows, leaks, conflicting labels, and the state of each split. Rows are counted from 1."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("exact", "normalised", "near")  # of duplicates, the strictest first


@dataclass(frozen=True)
class AuditRow:
    """A row of a split, counted from 1."""

    split: str
    row: int
    text: str
    label: str

    @property
    def place(self) -> str:
        """How a message names the row: "row 3 of train"."""
        return f"row {self.row} of {self.split}"


@dataclass(frozen=True)
class Conflict:
    """Rows of one text with different labels.

    `kind` is exact, or normalised: the texts differ only in case or spaces. Texts that differ in digits or punctuation
    are different texts, because digits or punctuation may decide the label: their kind is digits or punctuation, and
    they stand in `Audit.variants`.
    """

    kind: str
    rows: tuple[AuditRow, ...]


@dataclass(frozen=True)
class Leak:
    """A row and its duplicate in an earlier split; `kind` is the strictest one that holds."""

    kind: str
    row: AuditRow
    earlier: AuditRow


@dataclass(frozen=True)
class ListedRow:
    """A row behind a finding; for a leak, with the row of the earlier split that it duplicates."""

    where: str
    text: str
    label: str = ""
    like: str = ""
    like_text: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """The fields that are not empty, for a table."""
        return tuple(filter(None, (self.where, self.label, self.text, self.like, self.like_text)))


@dataclass(frozen=True)
class Lengths:
    """Percentiles of the lengths of texts, in characters or tokens."""

    p5: int
    p50: int
    p95: int
    longest: int


@dataclass(frozen=True)
class TokenCut:
    """How many texts and tokens exceed a backbone's `max_length`."""

    max_length: int
    n_texts: int
    n_tokens: int


@dataclass(frozen=True)
class SplitAudit:
    """The state of one split; rows are numbered from 1. `repeats` counts rows that repeat an earlier one."""

    n: int
    labels: dict[str, int]
    imbalance: float | None  # rows of the commonest label for each row of the rarest; None for fewer than two labels
    characters: Lengths
    tokens: Lengths | None
    cut: TokenCut | None
    scripts: dict[str, float]
    empty: tuple[int, ...]
    blank: tuple[int, ...]  # whitespace only
    unlabelled: tuple[int, ...]
    hardly_text: tuple[int, ...]
    damaged: dict[int, str]  # row → the characters that were decoded with the wrong encoding
    repeats: dict[str, int]  # by kind; each kind includes the stricter ones
