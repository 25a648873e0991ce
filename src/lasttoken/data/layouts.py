"""Folders in which a split is not one file: one text per file, and the layouts that `datasets` and Spark write.

reviews/pos/1.txt, reviews/neg/1.txt                one text per file, the folder's name is its label
aclImdb/train/pos/0_9.txt, aclImdb/test/neg/…       the same for each split
data/train-00000-of-00002.parquet, …                a split in shards, perhaps below the name of a configuration
default/train/0000.parquet, default/test/…          a folder for each split
train/data-00000-of-00001.arrow, train/state.json   what save_to_disk writes
part-00000.parquet, part-00001.parquet              one table in parts
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lasttoken.core.documents import load_json
from lasttoken.core.errors import DataError, RunError, one_of
from lasttoken.data.blanks import LeftOut
from lasttoken.data.files import Examples, without_blanks
from lasttoken.data.folders import NO_DATA, SPLIT_STEMS, may_be_data, read_files, read_like, split_files
from lasttoken.data.splitting.splits import Splits
from lasttoken.data.tables.formats import is_table_file
from lasttoken.data.tables.lines import read_pieces
from lasttoken.data.tables.options import ReadOptions

SHARD = re.compile(r"(.+?)-(\d+)-of-(\d+)(?:-[0-9a-f]+)?(\.\w+)(?:\.gz)?")
OTHER_FILES = ("state.json", "dataset_info.json", "dataset_dict.json")
PART = re.compile(r"part[-_.]?\d+.*")
WITHOUT_LABEL = ("unsup", "unlabeled", "unlabelled")  # folders of texts without labels
STATE = "state.json"  # lists the files that save_to_disk wrote to a folder, in their order


def read_layout(folder: Path, columns: Any, reading: dict[str, Any]) -> Splits | Examples | None:
    """The splits of a folder with one of these layouts, or its examples if it has no splits; None for another layout.

    `reading` are the keyword arguments of `read_files`. The notes name data files that are not read.

    Raises:
        DataError: a missing shard, two folders for one split, or a file that cannot be read.
    """
    if "train" in split_files(folder):
        return None
    if labels := _label_folders(folder):
        return _texts_of(folder, labels, reading)
    split_folders = {name: (path, _label_folders(path)) for name, path in _split_folders(folder).items()}
    split_folders = {name: (path, labels) for name, (path, labels) in split_folders.items() if labels}
    if "train" in split_folders:
        texts = {name: _texts_of(path, labels, reading) for name, (path, labels) in split_folders.items()}
        return _splits(texts, _unread(folder, [path for path, _ in split_folders.values()]))
    place, shards = _place_of_shards(folder)
    if "train" in shards:
        unread = _unread(place, [path for paths in shards.values() for path in paths])
        return _splits(_read_shards(shards, columns, reading), unread)
    if parts := _parts(folder):
        return _read_shards({"train": parts}, columns, reading)["train"]
    return None


def _splits(named: dict[str, Examples], unread: Sequence[str]) -> Splits:
    notes = tuple(note for examples in named.values() for note in examples.notes)
    return Splits(named["train"], named.get("validation"), named.get("test"), (*notes, *unread))


def _split_of(name: str) -> str | None:
    """The split that a folder or a shard is named after: "train", or "20news-bydate-test"."""
    last = re.split(r"[-_.]", name.lower())[-1]
    return next((split for split, stems in SPLIT_STEMS.items() if last in stems), None)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _split_folders(folder: Path) -> dict[str, Path]:
    """The folder of each split, by the folders' names.

    Raises:
        DataError: two folders are named after one split.
    """
    by_split: dict[str, Path] = {}
    for path in _folders(folder):
        if name := _split_of(path.name):
            if name in by_split:
                raise DataError(
                    f"{folder} has two folders for the {name} split: {by_split[name].name!r}, {path.name!r}; keep one"
                )
            by_split[name] = path
    return by_split


def _unread(folder: Path, used: Iterable[Path]) -> list[str]:
    """A note about the data files of a folder that are not read, if there are any."""
    read = set(used)
    names = [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not read & {path, *path.parents} and _may_be_data(path, folder)
    ]
    return [f"{folder.name} holds data files that are not used: {one_of(names)}"] if names else []


def _may_be_data(path: Path, folder: Path) -> bool:
    """Whether a file below the folder may hold data: neither hidden, nor one that describes data."""
    is_hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    return not is_hidden and path.name not in OTHER_FILES and may_be_data(path)


# One text per file ------------------------------------------------------------------------------------------------


def _label_folders(folder: Path) -> dict[Path, list[Path]]:
    """The folders with one text per file and their files, if there are at least two and none is named after a split."""
    by_folder = {path: _text_files(path) for path in _folders(folder) if path.name not in WITHOUT_LABEL}
    by_folder = {path: files for path, files in by_folder.items() if files}
    return by_folder if len(by_folder) > 1 and not any(_split_of(path.name) for path in by_folder) else {}


def _text_files(folder: Path) -> list[Path]:
    """The .txt files at any depth, in natural order; without any, the files without a suffix, if all have none."""
    inside = (path for path in folder.rglob("*") if path.is_file())
    files = [path for path in inside if not any(part[0] in "._" for part in path.relative_to(folder).parts)]
    texts = [path for path in files if path.suffix.lower() == ".txt"]
    if not texts and all(not path.suffix for path in files):
        texts = [path for path in files if path.stem.lower() not in NO_DATA]
    return sorted(texts, key=lambda path: (path.parent, len(path.name), path.name))


def _texts_of(folder: Path, labels: dict[Path, list[Path]], reading: dict[str, Any]) -> Examples:
    options: ReadOptions = reading["options"]
    texts, text_labels, places = [], [], []
    for label, paths in labels.items():
        for path in paths:
            text = "".join(read_pieces(path, options)).strip()
            if len(text) > options.max_row_bytes:
                raise DataError(f"{path} is longer than {options.max_row_bytes:,} bytes; raise --max-row-bytes")
            texts.append(text)
            text_labels.append(label.name)
            places.append(str(path))
    skipped = [path.name for path in _folders(folder) if path.name in WITHOUT_LABEL]
    notes = [f"{folder.name} is read as one text per file, with the folder's name as its label"]
    notes += [f"{folder.name}/{name} holds texts without labels and is not used" for name in skipped]
    used = [*(path for paths in labels.values() for path in paths), *(folder / name for name in skipped)]
    examples = Examples(texts, text_labels, source=folder.name, notes=(*notes, *_unread(folder, used)))
    return examples if reading.get("keep_blank") else without_blanks(examples, places.__getitem__, options.strict)


# Shards -----------------------------------------------------------------------------------------------------------


def _place_of_shards(folder: Path) -> tuple[Path, dict[str, list[Path]]]:
    """The folder with the shards, which may be an inner one, and the shards of each split.

    Raises:
        DataError: several configurations, or missing shards of a split.
    """
    for place in (folder, folder / "data"):
        if "train" in (shards := _shards(place)):
            return place, shards
    by_folder = {place: shards for place in _folders(folder) if "train" in (shards := _shards(place))}
    if len(by_folder) > 1:
        names = one_of(place.name for place in by_folder)
        raise DataError(f"{folder} holds several data sets: {names}; name one of them, such as {next(iter(by_folder))}")
    return next(iter(by_folder.items()), (folder, {}))


def _shards(place: Path) -> dict[str, list[Path]]:
    """The shards of each split, in their order: by their file names, else a folder for each split.

    Raises:
        DataError: a shard is missing.
    """
    by_split: dict[str, list[Path]] = {}
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        match = SHARD.fullmatch(path.name)
        if match and is_table_file(path) and (name := _split_of(match[1])):
            by_split.setdefault(name, []).append(path)
    if not by_split and place.is_dir():
        by_split = {name: files for name, path in _split_folders(place).items() if (files := _data_files(path))}
    for name, paths in by_split.items():
        match = SHARD.fullmatch(paths[0].name)
        expected = int(match[3]) if match else len(paths)
        if len(paths) != expected:
            raise DataError(f"{place} holds {len(paths)} of the {expected} shards of {name}; download the others")
    return by_split


def _data_files(folder: Path) -> list[Path]:
    """The data files of a folder, in the order that save_to_disk recorded, else by name."""
    try:
        return [folder / file["filename"] for file in load_json(folder / STATE)["_data_files"]]
    except (OSError, RunError, KeyError, TypeError):
        names = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in OTHER_FILES)
        return [path for path in names if is_table_file(path)]


def _parts(folder: Path) -> list[Path]:
    """The parts of one table that is not split."""
    files = _data_files(folder)
    numbered = all(PART.fullmatch(path.name) for path in files)
    return files if files and (numbered or (folder / STATE).is_file()) else []


def _read_shards(shards: dict[str, list[Path]], columns: Any, reading: dict[str, Any]) -> dict[str, Examples]:
    """Read every split, from the columns of the first shard of train."""
    named = read_files({name: paths[0] for name, paths in shards.items()}, columns, **reading)
    train = named["train"]
    for name in named:
        later = [read_like(train, path, columns, **reading) for path in shards[name][1:]]
        named[name] = _joined([named[name], *later])
    return named


def _joined(parts: Sequence[Examples]) -> Examples:
    """The examples of all parts as one, numbered from the first part's first row on."""

    def values(name: str) -> list[str] | None:
        of_parts = [getattr(part, name) for part in parts]
        return None if of_parts[0] is None else [value for part in of_parts for value in part or ()]

    lists = {name: values(name) for name in ("labels", "ids", "groups", "slices")}
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    texts = [text for part in parts for text in part.texts]
    numbers = [part.number_of(row) for part in parts for row in range(len(part))]
    left_out = LeftOut.joined(parts[0].source, [(len(part), part.left_out) for part in parts])
    joined: Examples = replace(
        parts[0],
        texts=texts,
        notes=notes,
        numbers=None if left_out is None else numbers,
        left_out=left_out,
        **lists,  # type: ignore[arg-type]
    )
    return joined
