"""Reading files for an audit: as splits by name, with rows that have no text or no label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lasttoken.core.columns import UNNAMED, ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.data.files import Examples
from lasttoken.data.folders import read_files, split_files, split_name
from lasttoken.data.layouts import read_layout
from lasttoken.data.splitting.splits import SPLIT_NAMES, Splits
from lasttoken.data.tables.formats import readable_suffixes
from lasttoken.data.tables.options import DEFAULT, ReadOptions


def read_for_audit(
    paths: Sequence[Path],
    asked: ColumnSpec = UNNAMED,
    *,
    options: ReadOptions = DEFAULT,
    separator: str | None = None,
) -> dict[str, Examples]:
    """Read one folder of splits, or files, as splits by name, train first; rows may lack their text or label.

    The name of a file says which split it is (train, validation or test, with any suffix); any other file is a split
    of its own name.

    Raises:
        DataError: a file that is missing or cannot be read, a folder without splits, or one file twice.
    """
    reading: dict[str, Any] = {"options": options, "separator": separator, "keep_blank": True}
    if len(paths) == 1 and paths[0].is_dir() and (layout := read_layout(paths[0], asked, reading)):
        return layout.named() if isinstance(layout, Splits) else {paths[0].name: layout}
    named = _folder_files(paths[0]) if len(paths) == 1 and paths[0].is_dir() else _named(paths)
    order = sorted(named, key=lambda name: SPLIT_NAMES.index(name) if name in SPLIT_NAMES else len(SPLIT_NAMES))
    return read_files({name: named[name] for name in order}, asked, **reading)


def _folder_files(folder: Path) -> dict[str, Path]:
    files = split_files(folder)
    if not files:
        raise DataError(
            f"{folder} holds no train.csv, validation.csv or test.csv (nor with {readable_suffixes()}); name the files"
        )
    return files


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in paths:
        name = split_name(path) or path.name
        name = str(path) if name in named else name
        if name in named:
            raise DataError(f"{path} is named twice; name each file once")
        named[name] = path
    return named
