"""The plan of a job: its input files, and where each is cut, so that part number p is a function of the input alone.

    in-0.jsonl   10 MB   block 400,000            parts 0 … 24
    in-1.csv     1 MB    cuts 28, 402,113, …      parts 25 … 27
    in-2.json.gz         whole                    part 28

The plan is recorded in job.json, so that only the first process has to find the cuts. It holds a number for each part
and nothing for a row, and a part has more rows where an input has more: ten million rows are 2,442 parts, and a
thousand million are some 10,000.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from lasttoken.bulk import windows
from lasttoken.bulk.inputs import InputFile, list_inputs
from lasttoken.bulk.pieces import FilePlan, fetch_start, fetch_whole, opened_input, parquet_groups
from lasttoken.core.errors import DataError, RunError
from lasttoken.core.scratch import scratch_folder
from lasttoken.data.tables.cuts import is_cuttable, newline_of, record_cuts, row_cuts
from lasttoken.data.tables.dialect import Dialect
from lasttoken.data.tables.encodings import codec_name, marked_encoding
from lasttoken.data.tables.format import ReadRequest
from lasttoken.data.tables.formats import input_format
from lasttoken.data.tables.json_rows import is_object_a_line
from lasttoken.data.tables.lines import first_bytes
from lasttoken.data.tables.opening import open_table
from lasttoken.data.tables.options import ReadOptions
from lasttoken.data.tables.raw_bytes import GZIP
from lasttoken.data.tables.table import OnBad, Table, listed

MOST_PARTS = 10_000  # of one job, by an estimate: listings and manifest stay small, and a part still takes minutes
MOST_FILES_CUT = 64  # of CSV: to cut one, all of it is read before the job starts
READERS = 16  # threads that read the starts of files
FIXED_HEADERS = ("csv", "tsv", "parquet", "arrow")  # each row has all columns
HASHED_BYTES = 1 << 16  # of the start of each file


@dataclass(frozen=True)
class Piece:
    """One part's share of an input file: bytes, or rows of Parquet; `end` None: the whole file."""

    file: InputFile
    plan: FilePlan
    start: int = 0
    end: int | None = None


@dataclass(frozen=True)
class Plan:
    """The pieces of an input, numbered from 0."""

    files: tuple[InputFile, ...]
    plans: tuple[FilePlan, ...]  # one for each file
    header: tuple[str, ...]

    @cached_property
    def _ends(self) -> list[int]:
        """Of each file, the number after its last part."""
        return list(accumulate(plan.n_pieces for plan in self.plans))

    @property
    def n_parts(self) -> int:
        """How many parts there are."""
        return self._ends[-1]

    def piece(self, number: int) -> Piece:
        """The share of part `number`."""
        index = bisect_right(self._ends, number)
        plan = self.plans[index]
        before = self._ends[index - 1] if index else 0
        start, end = plan.bounds(number - before)
        return Piece(self.files[index], plan, start, end)

    def to_json(self) -> dict[str, Any]:
        """The plan as job.json records it."""
        files = [
            {"name": file.name, "size": file.size, "version": file.version, **plan.to_json()}
            for file, plan in zip(self.files, self.plans, strict=True)
        ]
        return {"header": list(self.header), "files": files}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], files: Sequence[InputFile], where: str) -> Plan:
        """The recorded plan of these files.

        Raises:
            RunError: the files are not those of the plan, or have changed.
        """
        recorded = [(entry["name"], entry["size"], entry["version"]) for entry in content["files"]]
        present = [(file.name, file.size, file.version) for file in files]
        if recorded != present:
            fault = _difference(recorded, present)
            raise RunError(
                f"the input is not the one that {where} was begun with: {fault}; restore it, pass --restart to start "
                "again, or give another --output"
            )
        plans = tuple(FilePlan.from_json(entry) for entry in content["files"])
        return cls(tuple(files), plans, tuple(content["header"]))


def _difference(recorded: list[tuple[str, int, str]], present: list[tuple[str, int, str]]) -> str:
    """How the files differ, by the first that does."""
    before, now = ({name: rest for name, *rest in entries} for entries in (recorded, present))
    if missing := sorted(before.keys() - now.keys()):
        return f"{missing[0]} is no longer there"
    if added := sorted(now.keys() - before.keys()):
        return f"{added[0]} was added"
    changed = next((name for name in before if before[name] != now[name]), "the order of the files")
    return f"{changed} has changed"


def make_plan(
    place: str, options: ReadOptions, asked: Sequence[str], part_rows: int | None = None, strict: bool = False
) -> tuple[Plan, Table]:
    """The plan for an input, and the table of its first file, whose rows must not be read.

    Args:
        place: a path, a URL, a glob or a folder.
        options: how the files are read.
        asked: columns that the user or the training named.
        part_rows: rows of a part, about; None: 4,096, and more for an input of over 40 million rows.
        strict: a row at the start of a file that cannot be read is an error.

    Raises:
        DataError: no file, files with different columns, or a file that cannot be read.
        StorageError: see store.py.
    """
    files = list_inputs(place)
    with scratch_folder("plan") as scratch, ThreadPoolExecutor(READERS, "plan") as pool:
        looks = list(pool.map(lambda n: _look(files[n], scratch / str(n), options, asked, strict), range(len(files))))
    n_rows = sum(look.n_rows for look in looks)
    every = part_rows or windows.WINDOW * max(1, -(-n_rows // (windows.WINDOW * MOST_PARTS)))
    plans = []
    for file, look in zip(files, looks, strict=True):
        plans.append(_cut(file, look, options, every, len(files) <= MOST_FILES_CUT))
    header = _shared_header(files, looks)
    return Plan(tuple(files), tuple(plans), header), replace(looks[0].table, header=list(header))


# One file ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """What the start of a file shows."""

    format_name: str
    table: Table  # its header and dialect; closed
    n_rows: int  # estimated
    row_bytes: float  # estimated
    sha256: str  # of its first bytes
    is_cuttable: bool
    groups: tuple[int, ...] = ()  # rows of each row group of a Parquet file


def _look(file: InputFile, scratch: Path, options: ReadOptions, asked: Sequence[str], strict: bool) -> _Look:
    """Open the start of a file as a table."""
    path = file.path or fetch_start(file, scratch, options)
    start = first_bytes(path)
    known = input_format(path, start, options.format)
    table, path = _opened(file, path, options, asked, strict)
    with opened_input(file) as read:
        sample = read(0, min(file.size, HASHED_BYTES))
    digest = hashlib.sha256(sample).hexdigest()
    groups: tuple[int, ...] = ()
    if known.name == "parquet":
        groups = tuple(parquet_groups(file))
        n_rows, row_bytes = sum(groups), file.size / max(sum(groups), 1)
    else:
        lines = sample.count(b"\n")
        row_bytes = len(sample) / max(lines, 1)
        n_rows = round(file.size / row_bytes) if sample else 0
    plain = not sample.startswith(GZIP)
    encoding = marked_encoding(start) or options.encoding
    can_cut = known.name == "parquet" or (
        plain and known.is_text and is_cuttable(encoding) and _is_rows(known.name, table, path, encoding)
    )
    return _Look(known.name, table, n_rows, row_bytes, digest, can_cut, groups)


def _opened(
    file: InputFile, path: Path, options: ReadOptions, asked: Sequence[str], strict: bool
) -> tuple[Table, Path]:
    """The table of a file, closed, and the path that was read: the start of a remote file, or a copy of all of it."""
    on_bad: OnBad | None = None if strict else lambda _: None
    try:
        with open_table(path, options=options, asked=asked, on_bad=on_bad, labelled=False) as table:
            return table, path
    except DataError:
        if path.stat().st_size == file.size:
            raise
    path = fetch_whole(file, path.parent / "whole")  # the start may have broken off in a row or in a character
    with open_table(path, options=options, asked=asked, on_bad=on_bad, labelled=False) as table:
        return table, path


def _is_rows(name: str, table: Table, path: Path, encoding: str) -> bool:
    """Whether a text file holds one row after another, in a form whose pieces can be read."""
    if table.is_converted:
        return False
    if name == "jsonl":
        with path.open("rb") as file:
            start = file.read(HASHED_BYTES * 16).decode(codec_name(encoding), "replace")
        return is_object_a_line(start) and not path.name.lower().endswith(".json")
    return table.dialect is not None or name == "txt"


def _cut(file: InputFile, look: _Look, options: ReadOptions, every: int, cuts_records: bool) -> FilePlan:
    """Where one file is cut."""
    plan = FilePlan("whole", look.format_name, look.sha256)
    if not look.is_cuttable:
        return plan
    if look.groups:
        cuts = row_cuts(list(look.groups), every)
        return plan if len(cuts) < 3 else replace(plan, kind="rows", cuts=tuple(cuts))
    block = max(1, round(look.row_bytes * every))
    if look.table.dialect is None:
        return plan if file.size <= block else replace(plan, kind="lines", block=block, size=file.size)
    if not cuts_records or look.n_rows <= every // 2:
        return plan
    dialect: Dialect = replace(look.table.dialect, notes=())
    with ExitStack() as stack:
        path = file.path or fetch_whole(file, stack.enter_context(scratch_folder("cut")))
        request = ReadRequest(path, options, stack, on_bad=lambda _: None)
        cuts = record_cuts(request, dialect, not look.table.headerless, newline_of(look.format_name), every)
        with path.open("rb") as raw:
            n_lines = raw.read(cuts[0]).count(b"\n")
    if len(cuts) < 3:
        return plan
    return replace(plan, kind="records", cuts=tuple(cuts), dialect=dialect, lines_before=n_lines)


# All files --------------------------------------------------------------------------------------------------------


def _shared_header(files: Sequence[InputFile], looks: Sequence[_Look]) -> tuple[str, ...]:
    """The columns of all files: those of the first, and for JSON all keys that the first rows of a file have.

    Raises:
        DataError: files of several formats, or with different columns.
    """
    first = looks[0]
    header = dict.fromkeys(first.table.header)
    for file, look in zip(files, looks, strict=True):
        if look.format_name != first.format_name:
            raise DataError(
                f"{files[0].name} is {first.format_name} and {file.name} is {look.format_name}; score the files of "
                "each format on their own"
            )
        if look.format_name not in FIXED_HEADERS:
            header |= dict.fromkeys(look.table.header)
        elif set(look.table.header) != set(header):
            raise DataError(
                f"{files[0].name} has the columns {listed(first.table.header)} and {file.name} has "
                f"{listed(look.table.header)}; score files with different columns on their own, or make them alike"
            )
    return tuple(header)
