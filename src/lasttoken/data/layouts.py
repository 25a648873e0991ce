"""Folders that are not one file a split: a text a file, and the shards of the Hugging Face hub.

reviews/pos/1.txt, reviews/neg/1.txt                one text a file, the folder's name is its label
aclImdb/train/pos/0_9.txt, aclImdb/test/neg/…       the same for each split
data/train-00000-of-00002.parquet, …                a split in shards
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lasttoken.data.blanks import LeftOut
from lasttoken.data.files import Examples, without_blanks
from lasttoken.data.folders import SPLIT_STEMS, read_files
from lasttoken.data.lines import read_pieces
from lasttoken.data.options import ReadOptions
from lasttoken.data.splits import Splits
from lasttoken.errors import DataError

SHARD = re.compile(r"(.+?)-(\d+)-of-(\d+)(?:-[0-9a-f]+)?(\.parquet|\.jsonl?|\.csv)(?:\.gz)?")
WITHOUT_LABEL = ("unsup", "unlabeled", "unlabelled")  # folders of texts that nobody has labelled


def read_layout(folder: Path, columns: Any, reading: dict[str, Any]) -> Splits | Examples | None:
    """The splits of a folder of one of these layouts, the examples of one without splits, or None.

    Raises:
        DataError: a shard that is missing, or a file that cannot be read.
    """
    options: ReadOptions = reading["options"]
    if _label_folders(folder):
        return _texts_of(folder, options)
    inner = {name: path for path in _folders(folder) if (name := _split_of(path.name)) and _label_folders(path)}
    if "train" in inner:
        return _splits({name: _texts_of(path, options) for name, path in inner.items()})
    for place in (folder, folder / "data"):
        shards = _shards(place)
        if "train" in shards:
            return _splits(_read_shards(shards, columns, reading))
    return None


def _splits(found: dict[str, Examples]) -> Splits:
    notes = tuple(note for examples in found.values() for note in examples.notes)
    return Splits(found["train"], found.get("validation"), found.get("test"), notes)


def _split_of(name: str) -> str | None:
    return next((split for split, stems in SPLIT_STEMS.items() if name.lower() in stems), None)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _label_folders(folder: Path) -> list[Path]:
    """The folders in a folder that hold one text a file, if there are two or more and none is a split's."""
    found = [path for path in _folders(folder) if next(path.glob("*.txt"), None) is not None]
    labelled = [path for path in found if path.name not in WITHOUT_LABEL]
    return labelled if len(labelled) > 1 and not any(_split_of(path.name) for path in labelled) else []


def _texts_of(folder: Path, options: ReadOptions) -> Examples:
    texts, labels, places = [], [], []
    for label in _label_folders(folder):
        for path in sorted(label.glob("*.txt"), key=lambda path: (len(path.name), path.name)):
            text = "".join(read_pieces(path, options))
            if len(text) > options.max_row_bytes:
                raise DataError(f"{path} is longer than {options.max_row_bytes:,} bytes; raise --max-row-bytes")
            texts.append(text.strip())
            labels.append(label.name)
            places.append(str(path))
    skipped = [path.name for path in _folders(folder) if path.name in WITHOUT_LABEL]
    notes = [f"{folder.name} is read as one text a file, with the folder's name as its label"]
    notes += [f"{folder.name}/{name} holds texts without labels and is not used" for name in skipped]
    examples = Examples(texts, labels, source=folder.name, notes=tuple(notes))
    return without_blanks(examples, places.__getitem__, options.strict)


def _shards(folder: Path) -> dict[str, list[Path]]:
    """The shards of each split, in their order.

    Raises:
        DataError: not all of a split are there.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = SHARD.fullmatch(path.name)
        if match and (name := _split_of(match[1])):
            found.setdefault(name, []).append(path)
    for name, paths in found.items():
        match = SHARD.fullmatch(paths[0].name)
        expected = int(match[3]) if match else len(paths)
        if len(paths) != expected:
            raise DataError(f"{folder} holds {len(paths)} of the {expected} shards of {name}; fetch the others")
    return found


def _read_shards(shards: dict[str, list[Path]], columns: Any, reading: dict[str, Any]) -> dict[str, Examples]:
    """Every split read from the columns of the first shard of train."""
    found = read_files({name: paths[0] for name, paths in shards.items()}, columns, **reading)
    for name in found:
        more = [read_files({"train": shards["train"][0], name: path}, columns, **reading)[name] if name != "train"
                else read_files({"more": path}, columns, **reading)["more"] for path in shards[name][1:]]  # fmt: skip
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
