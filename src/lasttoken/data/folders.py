"""A folder of splits (train.csv, validation.csv and test.csv) is written and read."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TextIO

from lasttoken.core.columns import UNNAMED, ColumnSpec
from lasttoken.core.errors import DataError, one_of
from lasttoken.core.storage import new_file
from lasttoken.data.blanks import NoLabelsError
from lasttoken.data.columns import UnlabelledError
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.label_tables import labels_of
from lasttoken.data.labels import natural_order
from lasttoken.data.splitting.splits import SPLIT_NAMES, Splits
from lasttoken.data.tables.cells import csv_line
from lasttoken.data.tables.formats import format_by_suffix, readable_suffixes
from lasttoken.data.tables.options import DEFAULT, ReadOptions

SPLIT_STEMS = {  # file names without suffix, in any case and any format
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
NO_DATA = (  # names of files that describe data
    "readme",
    "license",
    "licence",
    "citation",
    "requirements",
    "dataset_info",
    "dataset_infos",
    "metadata",
)


def write_splits(splits: Splits, folder: str | Path, *, book: bool = False) -> None:
    """Write train.csv, validation.csv and test.csv: text, label, and id and group where there are any.

    With `book`, the header is `Label,Text` and labels are label_ids in natural order, as the chapter writes them. No
    file gets its name before all files are written.

    Raises:
        StorageError: no permission or a full disk.
    """
    named = splits.named()
    names = natural_order(label for examples in named.values() for label in labels_of(examples))
    label_ids = {name: str(label_id) for label_id, name in enumerate(names)} if book else None
    with ExitStack() as places:
        for name, examples in named.items():
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


def read_splits(
    folder: str | Path,
    asked: ColumnSpec = UNNAMED,
    *,
    options: ReadOptions = DEFAULT,
    separator: str | None = None,
) -> Splits:
    """Read a folder's train file and, where they exist, its validation and test files, see `split_files`.

    `notes` name the data files that are not used.

    Raises:
        DataError: no train file, two files for one split, or one that cannot be read.
    """
    folder = Path(folder)
    paths = split_files(folder) if folder.is_dir() else {}
    if "train" not in paths:
        raise DataError(f"{folder} has no train.csv, nor a train file of {readable_suffixes()}{_folder_hint(folder)}")
    named = read_files(paths, asked, options=options, separator=separator)
    notes = [note for examples in named.values() for note in examples.notes]
    if unused := _unused(folder, paths):
        notes.append(f"{folder.name} holds data files that are not used: {one_of(unused)}")
    return Splits(named["train"], named.get("validation"), named.get("test"), tuple(notes))


def read_files(
    paths: Mapping[str, Path],
    asked: ColumnSpec = UNNAMED,
    *,
    options: ReadOptions = DEFAULT,
    separator: str | None = None,
    keep_blank: bool = False,
) -> dict[str, Examples]:
    """Read files of splits by name; where one is called train, the others are read from the same columns.

    A test file without labels is left out, which the notes of train say.

    Raises:
        DataError: see `read_examples`; or a file lacks a column of train.
    """
    if "train" not in paths:
        return {
            name: read_examples(path, asked, options=options, separator=separator, keep_blank=keep_blank)
            for name, path in paths.items()
        }
    train = read_examples(paths["train"], asked, options=options, separator=separator, keep_blank=keep_blank)
    named = {"train": train}
    for name, path in paths.items():
        if name == "train":
            continue
        try:
            other = read_like(train, path, asked, options=options, separator=separator, keep_blank=keep_blank)
            fact = f"every row of {path.name} has the label '-1', which stands for no label"
        except (UnlabelledError, NoLabelsError) as error:
            if name != "test":
                raise
            other, fact = None, error.fact
        if other is None or (name == "test" and _hides_labels(other, train)):
            note = f"{fact}: the file is left out of the evaluation"
            named["train"] = replace(named["train"], notes=(*named["train"].notes, note))
        else:
            named[name] = other
    return named


def _hides_labels(test: Examples, train: Examples) -> bool:
    """Whether a test file withholds its labels, as data sets on the hub do: -1 in every row."""
    return set(test.labels or ()) == {"-1"} and "-1" not in (train.labels or ())


def read_like(
    train: Examples,
    path: Path,
    asked: ColumnSpec = UNNAMED,
    *,
    options: ReadOptions = DEFAULT,
    separator: str | None = None,
    keep_blank: bool = False,
) -> Examples:
    """Read another split of the data that train is from; its labels must be in the same columns as in train.

    Raises:
        UnlabelledError: the file has no label column.
        DataError: see `read_examples`.
    """
    columns = train.columns.remembered if train.columns else None
    return read_examples(
        path,
        replace(asked, label=()) if columns else asked,
        options=options,
        separator=separator,
        keep_blank=keep_blank,
        trained=columns,
        train_header=train.columns.header if train.columns else None,
    )


def split_files(folder: Path) -> dict[str, Path]:
    """The split files in a folder, train first: train.csv, dev.tsv, test.jsonl.gz, …, of every format that can be read.

    Raises:
        DataError: two files for one split.
    """
    by_split: dict[str, list[Path]] = {name: [] for name in SPLIT_NAMES}
    for path in sorted(folder.iterdir()):
        name = split_name(path)
        if name and path.is_file():
            by_split[name].append(path)
    for name, paths in by_split.items():
        if len(paths) > 1:
            names = one_of(path.name for path in paths)
            raise DataError(f"{folder} has more than one {name} file: {names}; keep one, or name the files with flags")
    return {name: paths[0] for name, paths in by_split.items() if paths}


def split_name(path: Path) -> str | None:
    """The split that a file is named after, or None.

    >>> split_name(Path("dev.tsv")), split_name(Path("Test.jsonl.gz")), split_name(Path("train.py"))
    ('validation', 'test', None)
    """
    if format_by_suffix(path) is None:
        return None
    stem = stem_of(path)
    return next((name for name, stems in SPLIT_STEMS.items() if stem in stems), None)


def stem_of(path: Path) -> str:
    """A file's name in lower case, without its suffix and .gz."""
    return Path(path.name.lower().removesuffix(".gz")).stem


def may_be_data(path: Path) -> bool:
    """Whether a file may hold a table, by its name; a readme or a license does not."""
    inner = Path(path.name.lower().removesuffix(".gz"))
    return bool(inner.suffix) and format_by_suffix(path) is not None and inner.stem not in NO_DATA


def _unused(folder: Path, used: Mapping[str, Path]) -> list[str]:
    """The names of a folder's data files that belong to no split."""
    return [
        path.name
        for path in sorted(folder.iterdir())
        if path.is_file() and path not in used.values() and may_be_data(path)
    ]


def _folder_hint(folder: Path) -> str:
    if not folder.is_dir():
        return ", because there is no such folder"
    names = sorted(entry.name for entry in folder.iterdir())
    return f" (it holds {one_of(names)})" if names else " (it is empty)"
