"""Folders that are not one file a split: a text a file, and the layouts that `datasets` and Spark write.

reviews/pos/1.txt, reviews/neg/1.txt                one text a file, the folder's name is its label
aclImdb/train/pos/0_9.txt, aclImdb/test/neg/…       the same for each split
data/train-00000-of-00002.parquet, …                a split in shards, perhaps below the name of a configuration
default/train/0000.parquet, default/test/…          a folder for each split
train/data-00000-of-00001.arrow, train/state.json   what save_to_disk writes
part-00000.parquet, part-00001.parquet              one table in parts
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lasttoken.core.errors import DataError, one_of
from lasttoken.data.blanks import LeftOut
from lasttoken.data.files import Examples, without_blanks
from lasttoken.data.folders import NO_DATA, SPLIT_STEMS, may_be_data, read_files, read_like, split_files
from lasttoken.data.formats import is_table_file
from lasttoken.data.lines import read_pieces
from lasttoken.data.options import ReadOptions
from lasttoken.data.splits import Splits

SHARD = re.compile(r"(.+?)-(\d+)-of-(\d+)(?:-[0-9a-f]+)?(\.\w+)(?:\.gz)?")
OTHER_FILES = ("state.json", "dataset_info.json", "dataset_dict.json")
PART = re.compile(r"part[-_.]?\d+.*")
WITHOUT_LABEL = ("unsup", "unlabeled", "unlabelled")  # folders of texts that nobody has labelled
STATE = "state.json"  # which of a folder's files save_to_disk wrote, in their order


def read_layout(folder: Path, columns: Any, reading: dict[str, Any]) -> Splits | Examples | None:
    """The splits of a folder of one of these layouts, the examples of one without splits, or None.

    `reading` are the keywords of `read_files`. Data files that are not read are named in the notes.

    Raises:
        DataError: a shard that is missing, two folders that may be meant, or a file that cannot be read.
    """
    if "train" in split_files(folder):
        return None
    if labels := _label_folders(folder):
        return _texts_of(folder, labels, reading)
    inner = {name: (path, _label_folders(path)) for name, path in _split_folders(folder).items()}
    inner = {name: (path, labels) for name, (path, labels) in inner.items() if labels}
    if "train" in inner:
        texts = {name: _texts_of(path, labels, reading) for name, (path, labels) in inner.items()}
        return _splits(texts, _unread(folder, [path for path, _ in inner.values()]))
    place, shards = _place_of_shards(folder)
    if "train" in shards:
        unread = _unread(place, [path for paths in shards.values() for path in paths])
        return _splits(_read_shards(shards, columns, reading), unread)
    if parts := _parts(folder):
        return _read_shards({"train": parts}, columns, reading)["train"]
    return None


def _splits(found: dict[str, Examples], unread: Sequence[str]) -> Splits:
    notes = tuple(note for examples in found.values() for note in examples.notes)
    return Splits(found["train"], found.get("validation"), found.get("test"), (*notes, *unread))


def _split_of(name: str) -> str | None:
    """The split that the name of a folder or of a shard says: "train", or "20news-bydate-test"."""
    last = re.split(r"[-_.]", name.lower())[-1]
    return next((split for split, stems in SPLIT_STEMS.items() if last in stems), None)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _split_folders(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _folders(folder):
        if name := _split_of(path.name):
            if name in found:
                raise DataError(
                    f"{folder} has two folders of the {name} split: {found[name].name!r}, {path.name!r}; keep one"
                )
            found[name] = path
    return found


def _unread(folder: Path, used: Iterable[Path]) -> list[str]:
    """A sentence about the data files of a folder that are not read."""
    read = set(used)
    names = [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not read & {path, *path.parents} and _may_be_data(path, folder)
    ]
    return [f"{folder.name} holds data files that are not used: {one_of(names)}"] if names else []


def _may_be_data(path: Path, folder: Path) -> bool:
    inner = path.relative_to(folder)
    hidden = any(part.startswith((".", "_")) for part in inner.parts)
    return not hidden and path.name not in OTHER_FILES and may_be_data(path)


# One text a file --------------------------------------------------------------------------------------------------


def _label_folders(folder: Path) -> dict[Path, list[Path]]:
    """The folders that hold one text a file, with their files, if there are two or more and none is a split's."""
    found = {path: _text_files(path) for path in _folders(folder) if path.name not in WITHOUT_LABEL}
    found = {path: files for path, files in found.items() if files}
    return found if len(found) > 1 and not any(_split_of(path.name) for path in found) else {}


def _text_files(folder: Path) -> list[Path]:
    """The .txt files at any depth, in natural order; without any, the files without a suffix if there are no others."""
    inside = (path for path in folder.rglob("*") if path.is_file())
    files = [path for path in inside if not any(part[0] in "._" for part in path.relative_to(folder).parts)]
    texts = [path for path in files if path.suffix.lower() == ".txt"]
    if not texts and all(not path.suffix for path in files):
        texts = [path for path in files if path.stem.lower() not in NO_DATA]
    return sorted(texts, key=lambda path: (path.parent, len(path.name), path.name))


def _texts_of(folder: Path, labels: dict[Path, list[Path]], reading: dict[str, Any]) -> Examples:
    options: ReadOptions = reading["options"]
    texts, given, places = [], [], []
    for label, paths in labels.items():
        for path in paths:
            text = "".join(read_pieces(path, options)).strip()
            if len(text) > options.max_row_bytes:
                raise DataError(f"{path} is longer than {options.max_row_bytes:,} bytes; raise --max-row-bytes")
            texts.append(text)
            given.append(label.name)
            places.append(str(path))
    skipped = [path.name for path in _folders(folder) if path.name in WITHOUT_LABEL]
    notes = [f"{folder.name} is read as one text a file, with the folder's name as its label"]
    notes += [f"{folder.name}/{name} holds texts without labels and is not used" for name in skipped]
    used = [*(path for paths in labels.values() for path in paths), *(folder / name for name in skipped)]
    examples = Examples(texts, given, source=folder.name, notes=(*notes, *_unread(folder, used)))
    return examples if reading.get("keep_blank") else without_blanks(examples, places.__getitem__, options.strict)


# Shards -----------------------------------------------------------------------------------------------------------


def _place_of_shards(folder: Path) -> tuple[Path, dict[str, list[Path]]]:
    """The folder that holds the shards of splits, it or one in it, and the shards of each split.

    Raises:
        DataError: several configurations, or not all shards of a split.
    """
    for place in (folder, folder / "data"):
        if "train" in (shards := _shards(place)):
            return place, shards
    found = {place: shards for place in _folders(folder) if "train" in (shards := _shards(place))}
    if len(found) > 1:
        names = one_of(place.name for place in found)
        raise DataError(f"{folder} holds several data sets: {names}; name one of them, such as {next(iter(found))}")
    return next(iter(found.items()), (folder, {}))


def _shards(place: Path) -> dict[str, list[Path]]:
    """The shards of each split, in their order: by the names of files, else a folder for each split.

    Raises:
        DataError: not all of a split are there.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        match = SHARD.fullmatch(path.name)
        if match and is_table_file(path) and (name := _split_of(match[1])):
            found.setdefault(name, []).append(path)
    if not found and place.is_dir():
        found = {name: files for name, path in _split_folders(place).items() if (files := _data_files(path))}
    for name, paths in found.items():
        match = SHARD.fullmatch(paths[0].name)
        expected = int(match[3]) if match else len(paths)
        if len(paths) != expected:
            raise DataError(f"{place} holds {len(paths)} of the {expected} shards of {name}; fetch the others")
    return found


def _data_files(folder: Path) -> list[Path]:
    """The data files of a folder, as save_to_disk lists them, else by name."""
    try:
        state = json.loads((folder / STATE).read_text("utf-8"))
        return [folder / one["filename"] for one in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError):
        names = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in OTHER_FILES)
        return [path for path in names if is_table_file(path)]


def _parts(folder: Path) -> list[Path]:
    """The parts of one table, of which nothing says a split."""
    files = _data_files(folder)
    numbered = all(PART.fullmatch(path.name) for path in files)
    return files if files and (numbered or (folder / STATE).is_file()) else []


def _read_shards(shards: dict[str, list[Path]], columns: Any, reading: dict[str, Any]) -> dict[str, Examples]:
    """Every split read from the columns of the first shard of train."""
    found = read_files({name: paths[0] for name, paths in shards.items()}, columns, **reading)
    train = found["train"]
    for name in found:
        more = [read_like(train, path, columns, **reading) for path in shards[name][1:]]
        found[name] = _joined([found[name], *more])
    return found


def _joined(parts: Sequence[Examples]) -> Examples:
    def values(name: str) -> list[str] | None:
        lists = [getattr(part, name) for part in parts]
        return None if lists[0] is None else [value for one in lists for value in one or ()]

    kept = {name: values(name) for name in ("labels", "ids", "groups", "slices")}
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    texts = [text for part in parts for text in part.texts]
    numbers = [part.number_of(at) for part in parts for at in range(len(part))]
    left_out = LeftOut.joined(parts[0].source, [(len(part), part.left_out) for part in parts])
    known = None if left_out is None else numbers
    made: Examples = replace(parts[0], texts=texts, notes=notes, numbers=known, left_out=left_out, **kept)  # type: ignore[arg-type]
    return made
