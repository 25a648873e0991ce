"""The piece of an input file that belongs to one part, as a local file that the readers of data/tables can open.

A piece of a local file that is not cut is the file itself. Any other is copied into a temporary folder: bytes between
two cuts, lines that start in a block, or rows of Parquet.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lasttoken.bulk.inputs import InputFile
from lasttoken.bulk.store import RangeFile
from lasttoken.core.errors import DataError
from lasttoken.data.tables.columnar import arrow_errors
from lasttoken.data.tables.dialect import Dialect
from lasttoken.data.tables.lines import read_errors
from lasttoken.data.tables.options import ReadOptions
from lasttoken.data.tables.raw_bytes import GZIP

COPIED_BYTES = 1 << 22  # at a time
START_BYTES = 1 << 22  # of a remote file, by which its format, its columns and its dialect are found


@dataclass(frozen=True)
class FilePlan:
    """Where one file is cut: `whole` nowhere, `lines` every `block` bytes, `records` and `rows` at the `cuts`."""

    kind: str
    format_name: str
    sha256: str  # of the start of the file
    cuts: tuple[int, ...] = ()
    block: int = 0
    size: int = 0
    dialect: Dialect | None = None  # of the file's records
    lines_before: int = 0  # lines above the first record

    @property
    def n_pieces(self) -> int:
        """How many pieces the file is cut into."""
        if self.kind == "whole":
            return 1
        return -(-self.size // self.block) if self.kind == "lines" else len(self.cuts) - 1

    def bounds(self, index: int) -> tuple[int, int | None]:
        """Where a piece starts and ends."""
        if self.kind == "whole":
            return 0, None
        if self.kind == "lines":
            return index * self.block, min(self.size, (index + 1) * self.block)
        return self.cuts[index], self.cuts[index + 1]

    def to_json(self) -> dict[str, Any]:
        """The plan as job.json records it, without what does not apply."""
        content = asdict(self)
        content.pop("size")
        return {name: value for name, value in content.items() if value not in ((), 0, None)}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> FilePlan:
        """The plan of an entry of job.json."""
        dialect = entry.get("dialect")
        return cls(
            entry["kind"],
            entry["format_name"],
            entry["sha256"],
            tuple(entry.get("cuts", ())),
            entry.get("block", 0),
            entry["size"] if entry["kind"] == "lines" else 0,
            None if dialect is None else Dialect(**{**dialect, "notes": tuple(dialect["notes"])}),
            entry.get("lines_before", 0),
        )


@contextmanager
def opened_input(file: InputFile) -> Iterator[Callable[[int, int], bytes]]:
    """A function that reads the bytes of a file from `start` up to `end`."""
    if file.path is None:
        yield RangeFile(file.url, file.size).range
        return
    with read_errors(file.path, "utf-8"), file.path.open("rb") as raw:

        def read(start: int, end: int) -> bytes:
            raw.seek(start)
            return raw.read(max(0, end - start))

        yield read


def fetch_start(file: InputFile, folder: Path, options: ReadOptions) -> Path:
    """The start of a remote text file, decompressed, up to a line end; of Parquet a file without rows.

    A file that can only be read as a whole is copied.
    """
    name = Path(file.name).name
    with opened_input(file) as read:
        start = read(0, START_BYTES)
    if start.startswith(b"PAR1"):
        return _parquet_piece(file, 0, 0, folder)
    is_gzip = start.startswith(GZIP)
    plain = name[: -len(".gz")] if is_gzip and name.lower().endswith(".gz") else name
    needs_all = plain.lower().endswith((".json", ".arrow", ".feather", ".parquet"))
    if needs_all or file.size <= len(start) or options.format == "json":
        return fetch_whole(file, folder)
    if is_gzip:
        start = zlib.decompressobj(wbits=31).decompress(start, START_BYTES)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / plain).write_bytes(_whole_rows(start))
    return folder / plain


def _whole_rows(start: bytes) -> bytes:
    """The start of a text up to the last line end that is in no quoted cell.

    >>> _whole_rows(b'id,text\\n1,"two\\nlines"\\n2,"two\\nli')
    b'id,text\\n1,"two\\nlines"\\n'
    """
    end = last = start.rfind(b"\n") + 1
    n_quotes = start.count(b'"', 0, end)
    while end and n_quotes % 2:
        before = start.rfind(b"\n", 0, end - 1) + 1
        n_quotes -= start.count(b'"', before, end)
        end = before
    return start[: end or last] or start


def fetch_whole(file: InputFile, folder: Path) -> Path:
    """A copy of a file under its own name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / Path(file.name).name
    with opened_input(file) as read, path.open("wb") as copy:
        for start in range(0, file.size, COPIED_BYTES):
            copy.write(read(start, min(file.size, start + COPIED_BYTES)))
    return path


def fetch_piece(file: InputFile, plan: FilePlan, start: int, end: int | None, folder: Path) -> Path:
    """A local file with the rows of a piece."""
    if plan.kind == "whole" or end is None:
        return file.path or fetch_whole(file, folder)
    if plan.kind == "rows":
        return _parquet_piece(file, start, end, folder)
    path = folder / Path(file.name).name
    with opened_input(file) as read, path.open("wb") as copy:
        if plan.kind == "lines":
            start = _line_start(read, start, plan.size)
            end = _line_start(read, end, plan.size)
        for position in range(start, end, COPIED_BYTES):
            copy.write(read(position, min(end, position + COPIED_BYTES)))
    return path


def _line_start(read: Callable[[int, int], bytes], position: int, size: int) -> int:
    """Where the first line begins that starts at `position` or after it; the file's size where there is none."""
    if position in (0, size):
        return position
    at, n_bytes = position - 1, 1 << 12
    while at < size:
        block = read(at, min(size, at + n_bytes))
        found = block.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(block)
        n_bytes = min(n_bytes * 4, COPIED_BYTES)
    return size


# Parquet ----------------------------------------------------------------------------------------------------------


@contextmanager
def _parquet_file(file: InputFile) -> Iterator[Any]:
    from pyarrow import parquet

    source: Any = file.path or io.BufferedReader(RangeFile(file.url, file.size), 1 << 16)
    with arrow_errors(file.name, "Parquet"), parquet.ParquetFile(source, pre_buffer=file.path is None) as opened:
        yield opened


def parquet_groups(file: InputFile) -> list[int]:
    """The rows of each row group of a Parquet file."""
    with _parquet_file(file) as opened:
        metadata = opened.metadata
        return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def _parquet_piece(file: InputFile, start: int, end: int, folder: Path) -> Path:
    """A Parquet file with the rows from `start` up to `end`."""
    from pyarrow import parquet

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / Path(file.name).name
    with _parquet_file(file) as opened, parquet.ParquetWriter(path, opened.schema_arrow) as writer:
        before = 0
        for group in range(opened.metadata.num_row_groups):
            n_rows = opened.metadata.row_group(group).num_rows
            first, last = max(start - before, 0), min(end - before, n_rows)
            if first < last:
                writer.write_table(opened.read_row_group(group).slice(first, last - first))
            before += n_rows
    if before < end:
        raise DataError(f"{file.name} has {before:,} rows, and had {end:,} before; it changed: run the command again")
    return path
