"""A file of texts is classified into another file, or to a stream: window by window, each written as a part.

rows ─► window ─► token_ids ┄┄ thread ┄┄► logits, by length to a token budget ─► part ─► … ─► output
        4,096 rows
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from lasttoken.bulk import windows
from lasttoken.bulk.answers import ScoredRows, added_names, score_rows
from lasttoken.bulk.parts import Counts, Part, Parts, describe_classifier, describe_input, rejects_of
from lasttoken.bulk.windows import Input, Window, read_windows
from lasttoken.classifier.predict import Predictor
from lasttoken.core.columns import UNNAMED, ColumnSpec
from lasttoken.core.device import CPU
from lasttoken.core.errors import DataError, SettingsError
from lasttoken.core.locks import exclusive
from lasttoken.core.progress import Reporter
from lasttoken.data.columns import Columns, choose_columns
from lasttoken.data.tables.arrow_types import schema_of_values
from lasttoken.data.tables.formats import FORMATS, format_by_magic, output_format
from lasttoken.data.tables.lines import first_bytes, read_errors
from lasttoken.data.tables.opening import open_table
from lasttoken.data.tables.options import DEFAULT, ReadOptions
from lasttoken.data.tables.raw_bytes import GZIP
from lasttoken.data.tables.table import BadRow, Table, not_in, row_fault
from lasttoken.data.tables.writing import AddedColumn, ColumnKind, OutputLayout, TableWriter, TextWriter

KINDS: tuple[ColumnKind, ...] = ("text", "number", "numbers", "flag")  # of the added columns
SAMPLED_BYTES = 1 << 18  # to estimate how many rows a file has


@dataclass(frozen=True)
class Source:
    """The input: a file, the columns of its texts, and the column to keep.

    `columns` names the text columns, and as `id` the only column that is copied to the output; None: all are copied.
    """

    path: Path
    columns: ColumnSpec = UNNAMED
    options: ReadOptions = DEFAULT
    trained: ColumnSpec | None = None  # the training's columns; they are read if `columns` names no text column
    spreadsheet_safe: bool = False  # cells that a spreadsheet would run as formulas are escaped

    @property
    def names(self) -> list[str]:
        """The columns that the user named, and those of the training."""
        return [*self.columns.names, *(self.trained or UNNAMED).names]


# Writes the parts of a source from a number on, wherever it likes, and yields their rows as they are finished.
Spread = Callable[[Source, Columns, Parts, int], Iterator[int]]


@dataclass(frozen=True)
class JobResult:
    """A finished job."""

    counts: Counts
    max_length: int  # in tokens; longer texts were cut to it
    resumed_at: int = 0  # rows that an earlier process had classified
    rejects: Path | None = None  # the file of the rows that could not be read


def score_file(
    load: Callable[[], Predictor],
    source: Source,
    output: Path,
    *,
    top_k: int | None = None,
    strict: bool = False,
    restart: bool = False,
    reporter: Reporter | None = None,
    spread: Spread | None = None,
) -> JobResult:
    """Classify every row of a file into another file; a job that was killed continues where it stopped.

    Args:
        load: loads the classifier, after the input has been opened.
        source: the input.
        output: a file with the suffix of a format that can be written, see formats.py.
        top_k: how many probabilities to write for a row; None: all of up to 10 labels, else 5.
        strict: stop at the first row that cannot be read.
        restart: discard the parts that an earlier job for this output has left.
        spread: classifies the windows elsewhere, see `Spread`; None: in this process.
        reporter: gets messages and progress.

    Raises:
        DataError: an input, or with `strict` a row, that cannot be read.
        SettingsError: an output with an unsupported suffix, a folder or a device, or the input itself.
        RunError: another process writes the output, or the parts beside it are of another job.
        StorageError: no permission, or a full disk; finished parts stay finished.
    """
    _check_output(source.path, output)
    with exclusive(output), exclusive(rejects_of(output)):
        return _score_held(load, source, output, top_k, strict, restart, reporter or Reporter(), spread)


def _check_output(input: Path, output: Path) -> None:
    """Reject an output that cannot be a file, or that is the input."""
    output_format(output)
    for path in (output, rejects_of(output)):
        if path.exists() and not path.is_file():
            raise SettingsError(f"{path} is a folder or a device, and the output must be a file; give another output")
        if path.exists() and input.exists() and path.samefile(input):
            raise SettingsError(f"the job would replace {path}, which is its input; give another output")


def _score_held(
    load: Callable[[], Predictor],
    source: Source,
    output: Path,
    top_k: int | None,
    strict: bool,
    restart: bool,
    reporter: Reporter,
    spread: Spread | None,
) -> JobResult:
    """`score_file`, once this process holds the lock of the output."""
    bad: list[BadRow] = []
    on_bad = None if strict else bad.append
    with open_table(
        source.path, options=source.options, asked=source.names, on_bad=on_bad, labelled=False, every_key=True
    ) as table:
        columns = _columns(table, source, reporter)
        writer = _writer(output, table, source)
        predictor = load()
        parts = Parts.beside(output, writer)
        job = _described(source, columns, predictor, writer, {"top_k": top_k, "strict": strict})
        done = parts.open(job, restart or not source.path.is_file())  # a pipe cannot be read again
        n_done = sum(part.counts.n_rows for part in done)
        if done:
            reporter.say(f"continuing after {n_done:,} rows that an earlier job has classified")
        try:
            input = Input(table, columns, source.options.encoding, bad, strict)
            finished: Iterator[Part | int]
            if spread is None:
                remaining = read_windows(input, predictor, skip=len(done))
                finished = _scored_here(predictor, enumerate(remaining, len(done)), parts, top_k)
            else:
                finished = spread(source, columns, parts, len(done))
            written = _score(finished, done, _estimate_rows(source.path), reporter)
            if spread is not None:
                _check_unchanged(source.path, job)  # each worker has opened it anew
                written = parts.finished()
            rejects = parts.finish(written, output)
        except DataError:
            parts.remove()  # the user has to change the input, which invalidates the parts
            raise
    longest = predictor.classifier.config.max_length
    return JobResult(sum((part.counts for part in written), Counts()), longest, n_done, rejects)


def _described(
    source: Source, columns: Columns, predictor: Predictor, writer: TableWriter, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What identifies a job: a resumed one must have the same."""
    return {
        "input": describe_input(source.path),
        "classifier": describe_classifier(predictor),
        "settings": {
            "text": list(columns.spec.text),
            "id": source.columns.id,
            **settings,
            "window": windows.WINDOW,
            "spreadsheet_safe": source.spreadsheet_safe,
            "reading": json.loads(json.dumps(asdict(source.options), default=str)),
        },
        "output": [writer.format_name, writer.layout.compressed],
    }


def _check_unchanged(path: Path, job: Mapping[str, Any]) -> None:
    if describe_input(path) != job["input"]:
        raise DataError(f"{path} was changed while it was read; run the command again")


def _score(numbers: Iterator[Part | int], done: list[Part], n_expected: int | None, reporter: Reporter) -> list[Part]:
    """Take the parts, or their numbers of rows, as they are finished; return the parts, with those finished before."""
    written = list(done)
    with reporter.bar("classifying", n_expected or 1) as advance:
        count = _RowCounter(advance, sum(part.counts.n_rows for part in done))
        for finished in numbers:
            if isinstance(finished, Part):
                written.append(finished)
            count(finished.counts.n_rows if isinstance(finished, Part) else finished)
    return written


def _scored_here(
    predictor: Predictor, remaining: Iterable[tuple[int, Window]], parts: Parts, top_k: int | None
) -> Iterator[Part]:
    for number, window in remaining:
        yield scored_window(predictor, number, window, parts, top_k)


def scored_window(predictor: Predictor, number: int, window: Window, parts: Parts, top_k: int | None) -> Part:
    """Classify window `number`, and write its part."""
    if number > 0 and predictor.device == CPU:
        predictor.classifier.pack_trunk()  # as the first window does; packed or not changes the last bits
    answers = classify(predictor, window, top_k)
    return parts.write(number, [row.values for row in window.rows], values_of(answers), window.bad, window.counts)


def score_to_stream(
    load: Callable[[], Predictor], source: Source, file: TextIO, as_json: bool, top_k: int | None, reporter: Reporter
) -> JobResult:
    """Classify every row of a file to an open file or stdout, as CSV or JSON lines.

    Raises:
        DataError: an input or a row that cannot be read.
    """
    counts = Counts()
    with open_table(source.path, options=source.options, asked=source.names, labelled=False) as table:
        columns = _columns(table, source, reporter)
        writer = _writer(Path("out.jsonl" if as_json else "out.csv"), table, source)
        assert isinstance(writer, TextWriter)
        predictor = load()
        file.write(writer.head())
        with reporter.bar("classifying", _estimate_rows(source.path) or 1) as advance:
            count = _RowCounter(advance, 0)
            input = Input(table, columns, source.options.encoding, [], strict=True)
            for window in read_windows(input, predictor):
                answers = classify(predictor, window, top_k)
                file.write(writer.body([row.values for row in window.rows], values_of(answers)))
                counts += window.counts
                count(len(window.rows))
    return JobResult(counts, predictor.classifier.config.max_length)


def values_of(answers: ScoredRows) -> tuple[Sequence[object], ...]:
    """The values of the added columns, N each."""
    return (answers.labels, answers.scores, answers.probs, answers.truncated)


def classify(predictor: Predictor, window: Window, top_k: int | None) -> ScoredRows:
    """The answers to the rows of a window, in the same bits for any number of threads.

    Batches that run side by side have a thread each (core/device.py); a single batch is given one thread here.
    """
    encoded, n_threads = window.encoded, torch.get_num_threads()
    is_single = encoded.n_tokens <= predictor.classifier.token_budget(predictor.device)
    try:
        if is_single and n_threads > 1:
            torch.set_num_threads(1)
        log_probs = predictor.log_probs(encoded)
    finally:
        if is_single and n_threads > 1:
            torch.set_num_threads(n_threads)
    return score_rows(log_probs, encoded, predictor.classifier.config, top_k)


def _columns(table: Table, source: Source, reporter: Reporter) -> Columns:
    columns = choose_columns(table, source.columns, labelled=False, trained=source.trained)
    for note in columns.notes:
        reporter.say(note)
    return columns


def _writer(output: Path, table: Table, source: Source) -> TableWriter:
    """The writer of the output, with the columns that are kept and those that scoring adds."""
    written, compressed = output_format(output)
    assert written.writer is not None
    if source.spreadsheet_safe and not written.for_spreadsheets:
        names = " and ".join(known.name.upper() for known in FORMATS if known.for_spreadsheets)
        raise SettingsError(f"--spreadsheet-safe is for {names}, and the output is .{written.name}; leave it out")
    copied = [source.columns.id] if source.columns.id else [name for name in table.header if name]
    layout = OutputLayout(
        tuple(copied),
        tuple(AddedColumn(name, kind) for name, kind in zip(added_names(copied), KINDS, strict=True)),
        compressed,
        source.spreadsheet_safe,
        every_key=source.columns.id is None,
        schema=_schema(table, source, copied) if written.has_types else None,
    )
    return written.writer(layout)


def _schema(table: Table, source: Source, names: Sequence[str]) -> Any:
    """The Arrow types of the input: those that it declares, or for JSON those that hold its values; None for others."""
    if not source.path.is_file():
        return None
    read = format_by_magic(first_bytes(source.path))
    if read and read.read_schema:
        return read.read_schema(source.path)
    return schema_of_values(_values_of(source), names) if table.separator is None else None


def _values_of(source: Source) -> Iterator[Mapping[str, object]]:
    """The readable rows of the input, from the start, because a JSON file does not declare the types of its rows."""
    with open_table(source.path, options=source.options, on_bad=lambda _: None, labelled=False) as table:
        for row in table.read(table.header):
            if row_fault(row, source.options.encoding) is None:
                yield row.values


def n_undecodable(rejects: Path, encoding: str) -> int:
    """How many of the rejected rows have bytes that are not in the encoding."""
    with rejects.open(encoding="utf-8") as lines:
        return sum(line.rstrip().endswith(not_in(encoding)) for line in lines)


class _RowCounter:
    """Advances a progress bar, with the rows per second of this process."""

    def __init__(self, advance: Callable[[int, str], None], n_before: int) -> None:
        self._advance, self._started, self._n_rows = advance, time.monotonic(), 0
        if n_before:
            advance(n_before, "")

    def __call__(self, n_rows: int) -> None:
        self._n_rows += n_rows
        rate = self._n_rows / max(time.monotonic() - self._started, 1e-9)
        self._advance(n_rows, f"{rate:,.0f} rows/s")


def _estimate_rows(path: Path) -> int | None:
    """How many rows a file has: the number that it declares, or an estimate from its first lines; None for a pipe."""
    if not path.is_file():
        return None
    read = format_by_magic(first_bytes(path))
    if read and read.count_rows:
        return read.count_rows(path)
    with read_errors(path, "utf-8"), path.open("rb") as raw:
        compressed = raw.read(2) == GZIP
        raw.seek(0)
        sample: bytes = gzip.GzipFile(fileobj=raw).read(SAMPLED_BYTES) if compressed else raw.read(SAMPLED_BYTES)
        used = raw.tell()
    lines = sample.count(b"\n")
    return max(1, round(lines * path.stat().st_size / used)) if used else None
