"""The files that an input names: one path or URL, a glob, or a folder of tables.

    s3://bucket/day=*/*.parquet  ──►  InputFile("day=1/a.parquet", url, size, version), …  in the order of names

Nothing is read here but listings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lasttoken.bulk.store import attempted, file_system, is_url, local_path, timestamp
from lasttoken.core.errors import DataError
from lasttoken.core.storage import is_leftover
from lasttoken.data.tables.formats import is_table_file
from lasttoken.data.tables.lines import read_errors

GLOB = frozenset("*?[")


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

    Files of a folder whose names begin with a dot or an underscore are left out, as are those that are not tables.

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
            int(entries[name].get("size") or 0),
            _version(entries[name]),
        )
        for name in names
    ]


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
    files = {name: file for name, file in matches.items() if file["type"] == "file" and not is_leftover(name)}
    if not files:
        raise DataError(f"no file matches {place}; check the pattern, and quote it so that the shell leaves it alone")
    return files


def _is_data(relative: str) -> bool:
    """Whether a file of a folder is one of its tables."""
    parts = [part for part in relative.split("/") if part]
    return not any(part.startswith((".", "_")) for part in parts) and is_table_file(Path(parts[-1]))


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


def _version(entry: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "generation"):
        if entry.get(key):
            return str(entry[key]).strip('"')
    return repr(timestamp(entry))
