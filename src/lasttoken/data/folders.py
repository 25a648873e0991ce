"""A folder of splits, train.csv, validation.csv and test.csv, written and read; and CSV as we write it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TextIO

from lasttoken.columns import UNNAMED, ColumnSpec
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.labels import natural_order
from lasttoken.data.options import DEFAULT, ReadOptions
from lasttoken.data.splits import SPLIT_NAMES, Splits, labels_of
from lasttoken.errors import DataError, one_of
from lasttoken.storage import new_file

NEEDS_QUOTES = re.compile(r'[",\r\n]')  # by its text, re.search took a third of the time of writing a split
SPLIT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".tsv.gz", ".jsonl.gz")


def write_splits(splits: Splits, folder: str | Path, *, book: bool = False) -> None:
    """Write train.csv, validation.csv and test.csv: text, label, and id and group where there are any.

    `book=True`: header `Label,Text` with label_ids in natural order, as the chapter writes them. None of the files
    is put in place before all are written.

    Raises:
        StorageError: no permission or a full disk.
    """
    found = splits.named()
    names = natural_order(label for examples in found.values() for label in labels_of(examples))
    label_ids = {name: str(label_id) for label_id, name in enumerate(names)} if book else None
    with ExitStack() as places:
        for name, examples in found.items():
            temporary = places.enter_context(new_file(Path(folder) / f"{name}.csv"))
            with temporary.open("w", encoding="utf-8", newline="") as handle:
                _write_csv(examples, handle, label_ids)


def _write_csv(examples: Examples, handle: TextIO, label_ids: dict[str, str] | None) -> None:
    labels = labels_of(examples)
    if label_ids is not None:
        columns = {"Label": [label_ids[label] for label in labels], "Text": examples.texts}
    else:
        columns = {"text": examples.texts, "label": labels}
        columns |= {"id": examples.ids} if examples.ids is not None else {}
        columns |= {"group": examples.groups} if examples.groups is not None else {}
        columns |= {"slice": examples.slices} if examples.slices is not None else {}
    handle.writelines(map(csv_line, chain([tuple(columns)], zip(*columns.values(), strict=True))))


def csv_line(cells: Iterable[str]) -> str:
    """A line of a CSV file, with its end.

    >>> csv_line(["a", "b, c"])
    'a,"b, c"\\n'
    """
    return ",".join(map(quoted, cells)) + "\n"


def quoted(text: str) -> str:
    """A CSV field, in quotes when it needs them. (csv.writer leaves a lone \\r bare, and then cannot read it.)

    >>> print(quoted('5" nails'), quoted("a, b"), quoted("hi"))
    "5"" nails" "a, b" hi
    """
    return '"' + text.replace('"', '""') + '"' if NEEDS_QUOTES.search(text) else text


def read_splits(
    folder: str | Path,
    asked: ColumnSpec = UNNAMED,
    *,
    options: ReadOptions = DEFAULT,
    separator: str | None = None,
) -> Splits:
    """Read train.csv and, where they are there, validation.csv and test.csv (or .tsv, .jsonl, .parquet, .gz).

    Raises:
        DataError: no train file, or one that cannot be read.
    """
    folder = Path(folder)
    paths = {name: split_file(folder, name) for name in SPLIT_NAMES}
    if paths["train"] is None:
        raise DataError(
            f"{folder} has no train.csv, nor one of {one_of(SPLIT_SUFFIXES[1:])}; add one{_folder_hint(folder)}"
        )
    found = {
        name: read_examples(path, asked, options=options, separator=separator)
        for name, path in paths.items()
        if path is not None
    }
    notes = tuple(note for examples in found.values() for note in examples.notes)
    return Splits(found["train"], found.get("validation"), found.get("test"), notes)


def split_file(folder: Path, name: str) -> Path | None:
    """The file of a split in a folder, of the first format there is."""
    return next((path for suffix in SPLIT_SUFFIXES if (path := folder / f"{name}{suffix}").is_file()), None)


def _folder_hint(folder: Path) -> str:
    if not folder.is_dir():
        return ", for there is no such folder"
    names = sorted(entry.name for entry in folder.iterdir())
    return f" (it holds {one_of(names)})" if names else " (it is empty)"
