"""Rows without a text or a label are counted and left out, or are an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lasttoken.core.errors import DataError
from lasttoken.core.spelling import is_blank

FILL_IN = "fill it in, or leave out --strict"


class NoLabelsError(DataError):
    """A file with texts but without any label; `fact` is the message without the advice."""

    def __init__(self, source: str, n_rows: int) -> None:
        self.fact = f"none of the {n_rows:,} rows of {source} has a label"
        super().__init__(f"{self.fact}; name another column with --label (predict classifies texts without labels)")


@dataclass(frozen=True)
class LeftOut:
    """How many rows of a source were left out because they have no text or no label, and the first row of each kind."""

    source: str
    n_rows: int  # in the source
    n_no_text: int
    n_no_label: int
    first_no_text: str = ""
    first_no_label: str = ""

    def sentences(self) -> tuple[str, ...]:
        """Messages about the rows that were left out.

        >>> LeftOut("a.csv", 200, 1, 0, "row 12 of a.csv").sentences()
        ('1 of 200 rows has no text and is left out: row 12 of a.csv',)
        """
        missing = (("text", self.n_no_text, self.first_no_text), ("label", self.n_no_label, self.first_no_label))
        return tuple(self._sentence(what, n, first) for what, n, first in missing if n)

    def _sentence(self, what: str, n: int, first: str) -> str:
        counted = f"{n:,} of {self.n_rows:,} rows"
        if n == 1:
            return f"{counted} has no {what} and is left out: {first}"
        most = f"; most rows lack it: is it the right column (--{what})?" if 2 * n > self.n_rows else ""
        return f"{counted} have no {what} and are left out; the first is {first}{most}"

    @classmethod
    def joined(cls, source: str, parts: Sequence[tuple[int, LeftOut | None]]) -> LeftOut | None:
        """The rows left out of several files together; for each file the number of kept rows, and the rows left out."""
        counts = [left_out for _, left_out in parts if left_out is not None]
        if not counts:
            return None
        n_rows = sum(left_out.n_rows if left_out else n_kept for n_kept, left_out in parts)
        n_no_text, n_no_label = sum(count.n_no_text for count in counts), sum(count.n_no_label for count in counts)
        return cls(source, n_rows, n_no_text, n_no_label, counts[0].first_no_text, counts[0].first_no_label)

    def to_json(self) -> dict[str, str | int]:
        """The source and the counts."""
        return {"source": self.source, "rows": self.n_rows, "no_text": self.n_no_text, "no_label": self.n_no_label}


def missing_part(text: str, label: str | None) -> str | None:
    """What a row lacks, "text" or "label"; None: nothing. A `label` of None is not checked."""
    if is_blank(text):
        return "text"
    return "label" if label is not None and is_blank(label) else None


class BlankRows:
    """Counts the rows that are left out because they have no text or no label."""

    def __init__(self, source: str, strict: bool) -> None:
        self.source, self.strict = source, strict
        self.n = {"text": 0, "label": 0}
        self.first = {"text": "", "label": ""}

    def leave_out(self, missing: str, place: str, error: str) -> None:
        """Count a row.

        Raises:
            DataError: with `strict`, with the message `error`.
        """
        if self.strict:
            raise DataError(error)
        self.n[missing] += 1
        self.first[missing] = self.first[missing] or place

    def result(self, n_rows: int) -> LeftOut | None:
        """The rows left out of N rows; None if there are none.

        Raises:
            DataError: all rows were left out.
        """
        n_text, n_label = self.n.values()
        if n_rows and n_text + n_label == n_rows:
            counted = " and ".join(f"{n:,} have no {what}" for what, n in self.n.items() if n)
            first = self.first["text"] or self.first["label"]
            if not n_text:
                raise NoLabelsError(self.source, n_rows)
            raise DataError(
                f"no row of {self.source} has both a text and a label: of {n_rows:,} rows {counted}, the first is "
                f"{first}; name other columns with --text and --label"
            )
        if not n_text + n_label:
            return None
        return LeftOut(self.source, n_rows, n_text, n_label, *self.first.values())
