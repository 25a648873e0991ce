"""The data of *Build a Large Language Model (From Scratch)*, chapter 6, row for row: read, balance, shuffle, split.

    label<TAB>text lines ─► rows, with CSV's quotes ─► as many of each label ─► shuffle ─► 70 % | 10 % | 20 %
           5,574                   5,572                   747 + 747                    1,045 | 149 | 300

It samples as pandas' `DataFrame.sample` does: `RandomState(seed).choice(n, size, replace=False)`. It does not look for
repeated texts; every other recipe uses cutting.py, which does. The chapter is published in two versions: its notebook
shuffles once, the script of its table of experiments twice; the second is the default here.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.columns import UNNAMED, ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.data.files import Examples, read_examples, without_blanks
from lasttoken.data.label_tables import label_counts, number_labels
from lasttoken.data.splitting.splits import SPLIT_NAMES, Splits
from lasttoken.data.tables.delimited import FIELD_LIMIT_BYTES
from lasttoken.data.tables.lines import LongLine, long_fault, read_lines
from lasttoken.data.tables.opening import open_table
from lasttoken.data.tables.options import DEFAULT, ReadOptions
from lasttoken.data.tables.table import place_of

Indices = NDArray[np.intp]

BOOK_SHUFFLES = 2  # as in the script of the chapter's table; 1 as in its notebook (37, not 36, test texts in train)


def read_as_chapter(path: str | Path, *, options: ReadOptions = DEFAULT) -> Examples:
    """Read a `label<TAB>text` file without a header as chapter 6 does: with CSV's quotes, as pandas reads it.

    A quote at the start of a text then extends to the next quote, over line ends: the 5,574 lines of the SMS Spam
    Collection become 5,572 rows. Only `--recipe book` reads files this way.

    Raises:
        DataError: a row without two fields, a quote that is never closed, or with `options.strict` an empty field.
    """
    path = Path(path)
    csv.field_size_limit(FIELD_LIMIT_BYTES)
    end = ["the end\tthe end"]  # is read as a separate row unless a quote is still open
    with closing(read_lines(path, options, newline="")) as lines:
        reader = csv.reader(chain(_bounded(lines, path.name, options), end), delimiter="\t")
        records = [(reader.line_num, record) for record in reader if record]
    if records.pop()[1] != end[0].split("\t"):
        raise DataError(f'{path.name} has a quote that is never closed; escape literal quotes by doubling them ("")')
    for number, (line, record) in enumerate(records, 1):
        if len(record) != 2:
            raise DataError(f"{place_of(number, line, path.name)} is not a label, a tab and a text; fix the row")
    n_lines = reader.line_num - 1
    counted = f"the {n_lines:,} lines of {path.name} are read as {len(records):,} rows"
    note = f"{counted}, because quotes are read as in the book"
    places = [place_of(number, line, path.name) for number, (line, _) in enumerate(records, 1)]
    texts, labels = [text for _, (_, text) in records], [label for _, (label, _) in records]
    return without_blanks(Examples(texts, labels, source=path.name, notes=(note,)), places.__getitem__, options.strict)


def _bounded(lines: Iterable[str], source: str, options: ReadOptions) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if isinstance(line, LongLine):
            raise DataError(f"line {number} of {source} {long_fault(options)}")
        yield line


@dataclass(frozen=True)
class BookCounts:
    """Rows at each stage of the chapter's recipe; for the SMS collection 5,572, then 747 of each label."""

    n_rows: int
    labels: dict[str, int]
    balanced: dict[str, int]  # equal to `labels` when they are not balanced


def book_splits(
    path: str | Path,
    asked: ColumnSpec = UNNAMED,
    *,
    options: ReadOptions = DEFAULT,
    seed: int = 123,
    train_fraction: float = 0.7,
    validation_fraction: float = 0.1,
    balance: bool = True,
    shuffles: int = BOOK_SHUFFLES,
) -> tuple[Splits, BookCounts]:
    """The chapter's splits of a file: `read_for_book`, then `split_as_chapter`.

    Raises:
        DataError: a file that cannot be read, one label only, or too few rows for three splits.
    """
    examples = read_for_book(path, asked, options=options)
    return split_as_chapter(examples, seed, train_fraction, validation_fraction, balance=balance, shuffles=shuffles)


def read_for_book(path: str | Path, asked: ColumnSpec = UNNAMED, *, options: ReadOptions = DEFAULT) -> Examples:
    """Read a `label<TAB>text` file without a header as the chapter does, any other file with `read_examples`.

    Raises:
        DataError: a file that cannot be read.
    """
    with open_table(path, options=options, asked=asked.names) as table:
        headerless = table.headerless and table.separator == "\t" and table.header == ["label", "text"]
    return read_as_chapter(path, options=options) if headerless else read_examples(path, asked, options=options)


def split_as_chapter(
    examples: Examples,
    seed: int,
    train_fraction: float,
    validation_fraction: float,
    *,
    balance: bool = True,
    shuffles: int = BOOK_SHUFFLES,
) -> tuple[Splits, BookCounts]:
    """The chapter's splits, row for row: undersample to the rarest label, shuffle, split (rounding down).

    The other labels are sampled first, in natural order, then come all rows of the rarest; each sample starts from the
    seed. Identical texts may be in two splits, as in the book (`count_shared_texts`).

    Raises:
        DataError: one label only, or too few rows for three splits.
    """
    names, label_ids = number_labels(examples)
    counts = label_counts(examples)
    rows = _book_balance(label_ids, len(names), seed) if balance else np.arange(len(examples))
    for _ in range(shuffles):
        rows = rows[_pandas_sample(len(rows), len(rows), seed)]
    splits = _book_cut(examples, rows, train_fraction, validation_fraction)
    return splits, BookCounts(
        len(examples), counts, dict.fromkeys(names, min(counts.values())) if balance else dict(counts)
    )


def _pandas_sample(n: int, size: int, seed: int) -> Indices:
    """The indices that `frame.sample(size, random_state=seed)` samples from n rows (pandas/core/sample.py)."""
    return np.random.RandomState(seed).choice(n, size=size, replace=False).astype(np.intp)


def _book_balance(label_ids: Indices, n_labels: int, seed: int) -> Indices:
    """Indices of equally many rows of each label: the others sampled, then all of the rarest (the last of several)."""
    by_label = [np.flatnonzero(label_ids == label_id) for label_id in range(n_labels)]
    rarest = min(range(n_labels), key=lambda label_id: (len(by_label[label_id]), -label_id))
    n_each = len(by_label[rarest])
    others = [
        rows[_pandas_sample(len(rows), n_each, seed)] for label_id, rows in enumerate(by_label) if label_id != rarest
    ]
    return np.concatenate([*others, by_label[rarest]])


def _book_cut(examples: Examples, rows: Indices, train_fraction: float, validation_fraction: float) -> Splits:
    train_end = int(len(rows) * train_fraction)
    validation_end = train_end + int(len(rows) * validation_fraction)
    parts = np.split(rows, [train_end, validation_end])
    for name, part in zip(SPLIT_NAMES, parts, strict=True):
        if not len(part):
            raise DataError(
                f"the {len(rows)} balanced rows of {examples.source} leave none for {name}"
                "; add examples of the rarest label or change the fractions"
            )
    train, validation, test = (examples.take(part.tolist()) for part in parts)
    return Splits(train, validation, test, examples.notes)
