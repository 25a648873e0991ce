"""Rows and their answers as CSV, TSV, JSONL or Parquet; parts of a file that become the whole by being joined.

part 0 ┐  CSV, TSV, JSONL: bytes end to end (members of gzip end to end are gzip)
part 1 ┼─ Parquet: row groups end to end, of the schema of the first part
part 2 ┘
"""

from __future__ import annotations

import base64
import datetime
import gzip
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lasttoken.bulk.answers import Answers
from lasttoken.core.documents import to_json
from lasttoken.core.errors import DataError, SettingsError, one_of
from lasttoken.data.columnar import as_table
from lasttoken.data.folders import csv_line
from lasttoken.data.tables import as_string, duration_text

KINDS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
GZIP_LEVEL = 6
ROWS_TYPED = 1000  # rows whose types are found at a time
MOST_EXACT = 2**53  # up to which a float holds every integer
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")  # with which a spreadsheet's formula may begin
NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?")

Values = Mapping[str, object]  # a row: column → value as the input holds it


@dataclass(frozen=True)
class Format:
    """How a file is written. `kept` columns of the input come first, then those of `added`."""

    kind: str
    packed: bool
    kept: tuple[str, ...]
    added: tuple[str, ...]  # label, score, probs, truncated
    schema: Any = None  # Parquet: types of the kept columns, where the input has them
    spreadsheet_safe: bool = False  # CSV and TSV: no cell is a formula to a spreadsheet
    every_key: bool = False  # JSONL: all that a row holds, also what the first rows lack

    @property
    def suffix(self) -> str:
        """Of a part."""
        return f".{self.kind}.gz" if self.packed else f".{self.kind}"

    def head(self) -> bytes:
        """What stands before the first row."""
        names = [_safe_cell_of(name) if self.spreadsheet_safe else name for name in (*self.kept, *self.added)]
        if self.kind == "csv":
            return csv_line(names).encode()
        return _tab_line(names).encode() if self.kind == "tsv" else b""

    def body(self, rows: Sequence[Values], answers: Answers) -> bytes:
        """The rows as text; not for Parquet."""
        columns = zip(rows, answers.labels, answers.scores, answers.probs, answers.truncated, strict=True)
        if self.kind == "jsonl":
            return "".join(self._json_line(*row) for row in columns).encode("utf-8")
        line = csv_line if self.kind == "csv" else _tab_line
        cell = _safe_cell_of if self.spreadsheet_safe else cell_of
        return "".join(
            line(
                [
                    *(cell(row.get(name)) for name in self.kept),
                    cell(label),
                    f"{score:.6f}",
                    to_json(probs),
                    "true" if cut else "false",
                ]
            )
            for row, label, score, probs, cut in columns
        ).encode("utf-8")

    def _json_line(self, row: Values, label: str | None, score: float, probs: dict[str, float], cut: bool) -> str:
        added = zip(self.added, (label, score, probs, cut), strict=True)
        kept = row if self.every_key else {name: row.get(name) for name in self.kept}
        return to_json({**kept, **dict(added)}, default=json_value) + "\n"

    def write_part(self, path: Path, rows: Sequence[Values], answers: Answers, schema: Any = None) -> None:
        """Write a part, without a head; of Parquet with this schema, if it is known."""
        if self.kind == "parquet":
            _write_parquet(path, self, rows, answers, schema)
            return
        content = self.body(rows, answers)
        path.write_bytes(gzip.compress(content, GZIP_LEVEL, mtime=0) if self.packed else content)

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """Make the parts one file."""
        if self.kind == "parquet":
            _join_parquet(parts, path)
            return
        with path.open("wb") as whole:
            head = self.head()
            whole.write(gzip.compress(head, GZIP_LEVEL, mtime=0) if self.packed and head else head)
            for part in parts:
                with part.open("rb") as one:
                    shutil.copyfileobj(one, whole, 1 << 20)


def format_of(path: Path, kept: Sequence[str], added: Sequence[str]) -> Format:
    """The format that an output's suffix asks for; none is CSV.

    Raises:
        SettingsError: a suffix that is not written.
    """
    inner = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    kind = KINDS.get(inner.suffix.lower(), "csv" if not inner.suffix else "")
    packed = inner != path
    if not kind or (kind == "parquet" and packed):
        raise SettingsError(
            f"--output {path} is of a kind that is not written; use {one_of(KINDS)}, text perhaps with .gz"
        )
    return Format(kind, packed, tuple(kept), tuple(added))


def cell_of(value: object) -> str:
    """A value of the input as a field of CSV: lists and objects as JSON, nothing as "".

    >>> cell_of(None), cell_of(1.5), cell_of(["a"])
    ('', '1.5', '["a"]')
    """
    if isinstance(value, list | dict | tuple):
        return to_json(value, default=json_value)
    return json_value(value) if isinstance(value, bytes) else as_string(value) or ""


def _safe_cell_of(value: object) -> str:
    """The same, with a single quote before what a spreadsheet would run as a formula; numbers stay numbers.

    >>> _safe_cell_of("=1+1"), _safe_cell_of("-5"), _safe_cell_of("fine")
    ("'=1+1", '-5', 'fine')
    """
    cell = cell_of(value)
    return f"'{cell}" if cell.startswith(FORMULA_SIGNS) and not NUMBER.fullmatch(cell) else cell


def json_value(value: object) -> str:
    """A value that JSON has no form for: bytes as base64, anything else as text.

    >>> json_value(b"\\x89PNG"), json_value(datetime.timedelta(seconds=90))
    ('iVBORw==', 'PT90S')
    """
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return duration_text(value) if isinstance(value, datetime.timedelta) else str(value)


def _tab_line(cells: Sequence[str]) -> str:
    """A line of tab-separated fields, which have no quotes: tabs and line ends in a field become spaces."""
    return "\t".join(cell.replace("\t", " ").replace("\r", " ").replace("\n", " ") for cell in cells) + "\n"


def _write_parquet(path: Path, form: Format, rows: Sequence[Values], answers: Answers, schema: Any) -> None:
    import pyarrow
    from pyarrow import parquet

    label, score, probs, truncated = form.added
    types = {
        label: pyarrow.string(),
        score: pyarrow.float64(),
        probs: pyarrow.map_(pyarrow.string(), pyarrow.float64()),
        truncated: pyarrow.bool_(),
    }
    added = (answers.labels, answers.scores, [list(one.items()) for one in answers.probs], answers.truncated)
    known = {} if schema is None else {field.name: field.type for field in schema}
    copied = as_table(rows, form.kept)
    columns = {} if copied is None else dict(zip(form.kept, copied.columns, strict=True))
    for name in form.kept if copied is None else ():
        try:
            columns[name] = _column([row.get(name) for row in rows], known.get(name))
        except (pyarrow.ArrowException, OverflowError) as error:
            raise DataError(
                f"column {name!r} has values of several types, which Parquet does not hold ({error}); write .jsonl"
            ) from error
    for (name, kind), values in zip(types.items(), added, strict=True):
        columns[name] = pyarrow.array(values, kind)
    parquet.write_table(pyarrow.table(columns), path)


def _column(values: Sequence[object], kind: Any) -> Any:
    """Values as the input gave them, in the type that its file has, if it has one; all-missing ones as strings."""
    import pyarrow

    if kind is not None and (pyarrow.types.is_null(kind) or pyarrow.types.is_string(kind)):
        return pyarrow.array([None if value is None else cell_of(value) for value in values], pyarrow.string())
    found = pyarrow.array(values, kind)
    return found.cast(pyarrow.string()) if pyarrow.types.is_null(found.type) else found


def schema_of_values(rows: Iterable[Values], names: Sequence[str]) -> Any:
    """The Parquet types that hold all values of rows; a column of several kinds of values becomes text.

    Args:
        rows: streamed once, a thousand in memory.
        names: the columns.
    """
    import pyarrow

    types: dict[str, Any] = dict.fromkeys(names, pyarrow.null())
    stream = iter(rows)
    while chunk := list(islice(stream, ROWS_TYPED)):
        for name in names:
            types[name] = _common_type(types[name], [row.get(name) for row in chunk])
    return pyarrow.schema([(name, pyarrow.string() if _is_unwritable(kind) else kind) for name, kind in types.items()])


def _is_unwritable(kind: Any) -> bool:
    """Whether a type holds an object without keys, such as {}, which Parquet has no form for."""
    import pyarrow

    inner = [kind.field(index).type for index in range(kind.num_fields)]
    return (pyarrow.types.is_struct(kind) and not inner) or any(map(_is_unwritable, inner))


def _common_type(known: Any, values: Sequence[object]) -> Any:
    import pyarrow

    try:
        here = pyarrow.schema([("x", pyarrow.array(values).type)])
        merged = pyarrow.unify_schemas([pyarrow.schema([("x", known)]), here], promote_options="permissive")
    except (pyarrow.ArrowException, OverflowError, UnicodeError, TypeError):
        return pyarrow.string()
    mixed = pyarrow.types.is_floating(merged.field("x").type)
    large = mixed and any(isinstance(value, int) and abs(value) > MOST_EXACT for value in values)
    return pyarrow.string() if large else merged.field("x").type


def _join_parquet(parts: Sequence[Path], path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    schema = schema_of(parts[0])
    with parquet.ParquetWriter(path, schema) as writer:
        for part in parts:
            try:
                table = parquet.read_table(part)
                writer.write_table(table if table.schema.equals(schema) else table.cast(schema))
            except pyarrow.ArrowException as error:
                raise DataError(
                    f"rows of {part.name} are of other types than the first ({error}); write .jsonl"
                ) from error


def schema_of(part: Path) -> Any:
    """The columns and types of a Parquet file."""
    from pyarrow import parquet

    return parquet.read_schema(part)
