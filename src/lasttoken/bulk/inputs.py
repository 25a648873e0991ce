"""The files that an input names: one path or URL, a glob, or a folder of tables.

    s3://bucket/day=*/*.parquet  ──►  InputFile("day=1/a.parquet", url, size, version), …  in the order of names

Nothing is read here but listings.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lasttoken.bulk.store import attempted, file_system, is_url, local_path, timestamp
from lasttoken.core.errors import DataError
from lasttoken.core.storage import is_leftover
from lasttoken.data.tables.formats import is_table_file
from lasttoken.data.tables.lines import read_errors

GLOB = frozenset("*?[")
TAGS = ("ETag", "etag", "generation")  # of an entry, which change with the content


@dataclass(frozen=True)
class InputFile:
    """A file of an input. `version` changes when the file does: its ETag, or the time at which it was written."""

    name: str  # relative to the folder that all files of the input share
    url: str  # a URL, or a local path
    size: int
    version: str

    @property
    def path(self) -> Path | None:
        """The path of a local file."""
        return None if is_url(self.url) else local_path(self.url)


def list_inputs(place: str) -> list[InputFile]:
    """The files that a path, a URL, a glob or a folder names, sorted by name.

    Files of a folder whose names begin with a dot or an underscore are left out, as are those that are not tables. A
    glob leaves out names that begin with a dot, as shells do, unless it has one.

    Raises:
        DataError: there is no such file, or no file that the glob or the folder names.
        StorageError: see `attempted`.
    """
    fs, path = file_system(place)
    entries = _entries(place, fs, path)
    names = sorted(entries)
    shared = _shared_folder(names)
    return [
        InputFile(
            name[len(shared) :],
            fs.unstrip_protocol(name) if is_url(place) else name,
            *_state(entries[name], None if is_url(place) else Path(name)),
        )
        for name in names
    ]


def check_unchanged(file: InputFile) -> None:
    """Notice a file that was changed since it was listed.

    Raises:
        DataError: it has another size or version, or is gone.
        StorageError: see `attempted`.
    """
    fs, path = file_system(file.url)

    def info() -> dict[str, Any]:
        fs.invalidate_cache()
        return fs.info(path)  # type: ignore[no-any-return]

    try:
        entry = attempted(file.url, info)
    except FileNotFoundError as error:
        raise DataError(f"{file.url} is no longer there; restore it, and run the command again") from error
    size, version = _state(entry, file.path)
    if file.path is None and not _has_tag(entry):
        version = file.version  # the time may be given otherwise than in a listing
    if (size, version) != (file.size, file.version):
        raise DataError(
            f"{file.url} was changed while it was read; run the command again, with --restart if the change is meant"
        )


def would_name(place: str, other: str) -> bool:
    """Whether an input names a file, or would if there were one: it is in the folder, or the glob matches it."""
    fs, path = _resolved(place)
    other_fs, other_path = _resolved(other)
    if fs != other_fs:
        return False
    if attempted(place, lambda: fs.isdir(path)):
        folder = path.rstrip("/") + "/"
        return other_path.startswith(folder) and _is_data(other_path[len(folder) :])
    if not GLOB & set(path) or attempted(place, lambda: fs.exists(path)):
        return path == other_path
    from fsspec.utils import glob_translate

    return re.match(glob_translate(path), other_path) is not None and _is_shown(path, other_path)


def _resolved(place: str) -> tuple[Any, str]:
    """The file system of a place and the path in it, without symbolic links."""
    return file_system(place if is_url(place) else os.path.realpath(local_path(place)))


def _entries(place: str, fs: Any, path: str) -> dict[str, dict[str, Any]]:
    """The listing's entries of the files, by their paths."""

    def info() -> dict[str, Any] | None:
        fs.invalidate_cache()
        try:
            found: dict[str, Any] = fs.info(path)
        except FileNotFoundError:
            return None
        return found

    entry = attempted(place, info)
    if entry is not None and entry["type"] != "directory":
        if entry["type"] != "file" and not is_url(place) and not Path(path).is_file():
            raise DataError(
                f"{place} is a pipe or a device, and parts are read from files; save it as a file, or write one file"
            )
        return {path: entry}
    if entry is not None:
        found = attempted(place, lambda: fs.find(path, detail=True))
        files = {name: file for name, file in found.items() if _is_data(name[len(path) :])}
        if not files:
            raise DataError(f"the folder {place} holds no table, such as a .csv, .jsonl or .parquet file; give another")
        return files
    if not GLOB & set(place):
        if not is_url(place):
            with read_errors(local_path(place), "utf-8"):
                local_path(place).stat()
        raise DataError(f"there is no file {place}; check its name")
    matches = attempted(place, lambda: fs.glob(path, detail=True))
    files = {
        name: file
        for name, file in matches.items()
        if file["type"] != "directory" and not is_leftover(name) and _is_shown(path, name)
        if is_url(place) or not Path(name).is_dir()  # a symbolic link is of the type "other"
    }
    if not files:
        raise DataError(f"no file matches {place}; check the pattern, and quote it so that the shell leaves it alone")
    return files


def _is_data(relative: str) -> bool:
    """Whether a file of a folder is one of its tables."""
    parts = [part for part in relative.split("/") if part]
    return not any(part.startswith((".", "_")) for part in parts) and is_table_file(Path(parts[-1]))


def _is_shown(pattern: str, name: str) -> bool:
    """Whether a pattern matches a name as shells do it: wildcards do not match names that begin with a dot.

    >>> _is_shown("/a/*.csv", "/a/.b.csv"), _is_shown("/a/.*.csv", "/a/.b.csv"), _is_shown("/.a/*.csv", "/.a/b.csv")
    (False, True, True)
    """
    fixed = pattern.rfind("/", 0, min(pattern.find(sign) for sign in GLOB & set(pattern))) + 1
    wild, parts = pattern[fixed:].split("/"), name[fixed:].split("/")
    return any(part.startswith(".") for part in wild) or not any(part.startswith(".") for part in parts)


def _shared_folder(names: list[str]) -> str:
    """The folder that holds all of these paths, with its slash.

    >>> _shared_folder(["/a/b/x.csv", "/a/c/y.csv"]), _shared_folder(["/a/x.csv"])
    ('/a/', '/a/')
    """
    first, last = names[0], names[-1]
    n = 0
    while n < min(len(first), len(last)) and first[n] == last[n]:
        n += 1
    return first[: first.rfind("/", 0, n) + 1]


def _state(entry: dict[str, Any], path: Path | None) -> tuple[int, str]:
    """The size and the version of a file; of a local one, those of the file to which a symbolic link leads."""
    if path is not None:
        with read_errors(path, "utf-8"):
            stat = path.stat()
        return stat.st_size, repr(stat.st_mtime)
    size = int(entry.get("size") or 0)
    if _has_tag(entry):
        return size, next(str(entry[key]).strip('"') for key in TAGS if entry.get(key))
    return size, repr(timestamp(entry))


def _has_tag(entry: dict[str, Any]) -> bool:
    return any(entry.get(key) for key in TAGS)
