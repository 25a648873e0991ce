"""One file classified into another: windows of rows are read and encoded ahead, classified by length, written in order.

    rows ─► window ─► token_ids ┄┄ thread ┄┄► logits, by length to a token budget ─► part ─► … ─► the whole
            4,096 rows

No answer depends on its window, and memory holds three windows whatever the file's size.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

from lasttoken.bulk.answers import Answers, added_names, answers_of
from lasttoken.bulk.parts import Counts, Part, Parts, describe_classifier, describe_input, rejects_of
from lasttoken.bulk.writers import Format, format_of, schema_of_values
from lasttoken.classifier.encoding import Encoded
from lasttoken.classifier.predict import Predictor
from lasttoken.core.columns import UNNAMED, ColumnSpec
from lasttoken.core.errors import DataError, SettingsError
from lasttoken.core.progress import Reporter
from lasttoken.core.storage import exclusive
from lasttoken.data.columnar import ArrowRow
from lasttoken.data.columns import Columns, choose_columns
from lasttoken.data.lines import GZIP, PARQUET, first_bytes, read_errors
from lasttoken.data.opening import open_table
from lasttoken.data.options import DEFAULT, ReadOptions
from lasttoken.data.tables import BadRow, OnBad, Row, Table, place_of, row_fault

WINDOW = 4096  # rows read, classified and written at a time
SAMPLED_BYTES = 1 << 18  # to estimate how many rows a file has


@dataclass(frozen=True)
class Source:
    """What is read: a file, and which columns are its text."""

    path: Path
    text: tuple[str, ...] = ()
    id: str | None = None  # the only column that is kept; None: all
    options: ReadOptions = DEFAULT
    trained: ColumnSpec | None = None  # the columns of the training, which are read where `text` names none
    spreadsheet_safe: bool = False  # no cell of CSV and TSV is a formula to a spreadsheet


@dataclass(frozen=True)
class JobResult:
    """A finished job."""

    counts: Counts
    max_length: int  # tokens to which longer texts were cut
    resumed_at: int = 0  # rows that an earlier process had done
    rejects: Path | None = None  # where the rows stand that could not be read


@dataclass(frozen=True)
class Window:
    """Rows of the input with their texts as token ids, and the rows between them that could not be read."""

    rows: list[Row]
    encoded: Encoded
    bad: list[BadRow]
    n_empty: int  # rows whose text has no character to read

    @property
    def counts(self) -> Counts:
        """What becomes of the rows."""
        return Counts(len(self.rows), int(self.encoded.cut.sum()), len(self.bad), self.n_empty)


def score_file(
    load: Callable[[], Predictor],
    source: Source,
    output: Path,
    *,
    top_k: int | None = None,
    strict: bool = False,
    restart: bool = False,
    reporter: Reporter | None = None,
) -> JobResult:
    """Classify every row of a file into another; a job that was killed goes on where it was.

    Args:
        load: gives the classifier, once the input has been found readable.
        source: the input.
        output: .csv, .tsv or .jsonl, perhaps with .gz, or .parquet.
        top_k: how many probabilities to write for a row; None: all of up to 10 labels, else 5.
        strict: stop at the first row that cannot be read.
        restart: drop what an earlier job for this output has left.
        talk: who is told.

    Raises:
        DataError: an input, or with `strict` a row, that cannot be read.
        SettingsError: an output of a kind that is not written, a folder or a device, or the input itself.
        RunError: another process works on the output, or beside it are parts of another job.
        StorageError: no permission, or a full disk; what is done stays done.
    """
    _check_output(source.path, output)
    with exclusive(output), exclusive(rejects_of(output)):
        return _score_held(load, source, output, top_k, strict, restart, reporter or Reporter())


def _check_output(input: Path, output: Path) -> None:
    """Refuse an output that cannot be a file, or that is the input."""
    format_of(output, (), ())
    for path in (output, rejects_of(output)):
        if path.exists() and not path.is_file():
            raise SettingsError(f"{path} is a folder or a device, and the output is a file; give another output")
        if path.exists() and input.exists() and path.samefile(input):
            raise SettingsError(f"the job would replace {path}, which is the file that it reads; give another output")


def _score_held(
    load: Callable[[], Predictor],
    source: Source,
    output: Path,
    top_k: int | None,
    strict: bool,
    restart: bool,
    reporter: Reporter,
) -> JobResult:
    """`score_file`, once the output is this process's own."""
    bad: list[BadRow] = []
    on_bad = None if strict else bad.append
    with open_table(
        source.path, options=source.options, asked=_asked(source), on_bad=on_bad, labelled=False, every_key=True
    ) as table:
        columns = _columns(table, source, reporter)
        form = _form(output, table, source)
        predictor = load()
        parts = Parts.beside(output, form)
        job = {
            "input": describe_input(source.path),
            "classifier": describe_classifier(predictor),
            "settings": {
                "text": list(columns.text),
                "id": source.id,
                "top_k": top_k,
                "strict": strict,
                "window": WINDOW,
                "spreadsheet_safe": source.spreadsheet_safe,
                "reading": json.loads(json.dumps(asdict(source.options), default=str)),
            },
            "output": [form.kind, form.packed],
        }
        done = parts.open(job, restart or not source.path.is_file())  # a pipe gives its rows once
        n_done = sum(part.counts.n_rows for part in done)
        if done:
            reporter.say(f"going on after {n_done:,} rows that an earlier job has classified")
        try:
            windows = _windows(table, columns, predictor, bad, source.options.encoding, strict, skip=len(done))
            written = _score(predictor, windows, parts, done, top_k, _estimate_rows(source.path), reporter)
            rejects = parts.finish(written, output)
        except DataError:
            parts.remove()  # the input has to change, and then nothing of this is of use
            raise
    longest = predictor.classifier.config.max_length
    return JobResult(sum((part.counts for part in written), Counts()), longest, n_done, rejects)


def _score(
    predictor: Predictor,
    windows: Iterator[Window],
    parts: Parts,
    done: list[Part],
    top_k: int | None,
    n_expected: int | None,
    reporter: Reporter,
) -> list[Part]:
    """Classify windows and write their parts; all parts, with those that were done."""
    written = list(done)
    with reporter.bar("classifying", n_expected or 1) as advance:
        tell = _Pace(advance, sum(part.counts.n_rows for part in done))
        for number, window in enumerate(windows, len(done)):
            answers = classify(predictor, window, top_k)
            rows = [row.values for row in window.rows]
            written.append(parts.write(number, rows, answers, window.bad, window.counts))
            tell(len(window.rows))
    return written


def score_to_stream(
    load: Callable[[], Predictor], source: Source, file: TextIO, as_json: bool, top_k: int | None, reporter: Reporter
) -> JobResult:
    """The same, row by row to an open file; a row that cannot be read ends it.

    Raises:
        DataError: an input or a row that cannot be read.
    """
    counts = Counts()
    with open_table(source.path, options=source.options, asked=_asked(source), labelled=False) as table:
        columns = _columns(table, source, reporter)
        form = _form(Path("out.jsonl" if as_json else "out.csv"), table, source)
        predictor = load()
        file.write(form.head().decode("utf-8"))
        with reporter.bar("classifying", _estimate_rows(source.path) or 1) as advance:
            tell = _Pace(advance, 0)
            for window in _windows(table, columns, predictor, [], source.options.encoding, strict=True):
                answers = classify(predictor, window, top_k)
                file.write(form.body([row.values for row in window.rows], answers).decode("utf-8"))
                counts += window.counts
                tell(len(window.rows))
    return JobResult(counts, predictor.classifier.config.max_length)


def classify(predictor: Predictor, window: Window, top_k: int | None) -> Answers:
    """The answers to the rows of a window."""
    log_probs = predictor.log_probs(window.encoded)
    return answers_of(log_probs, window.encoded.cut, predictor.classifier.config, top_k)


def _asked(source: Source) -> list[str]:
    return [*ColumnSpec(source.text, id=source.id).names, *(source.trained or UNNAMED).names]


def _columns(table: Table, source: Source, reporter: Reporter) -> Columns:
    columns = choose_columns(table, ColumnSpec(source.text, id=source.id), labelled=False, trained=source.trained)
    for note in columns.notes:
        reporter.say(note)
    return columns


def _form(output: Path, table: Table, source: Source) -> Format:
    kept = [source.id] if source.id else [name for name in table.header if name]
    form = replace(format_of(output, kept, added_names(kept)), spreadsheet_safe=source.spreadsheet_safe)
    if form.spreadsheet_safe and form.kind not in ("csv", "tsv"):
        raise SettingsError(f"--spreadsheet-safe is for CSV and TSV, and the output is .{form.kind}; leave it out")
    if form.kind == "parquet" and first_bytes(source.path).startswith(PARQUET):
        from pyarrow import parquet

        return replace(form, schema=parquet.read_schema(source.path))
    if form.kind == "parquet" and table.separator is None and source.path.is_file():
        return replace(form, schema=schema_of_values(_values_of(source), kept))
    return replace(form, every_key=form.kind == "jsonl" and source.id is None)


def _values_of(source: Source) -> Iterator[Mapping[str, object]]:
    """The readable rows of the input, from the start: a JSON file says nothing of the types of its later rows."""
    with open_table(source.path, options=source.options, on_bad=lambda _: None, labelled=False) as table:
        for row in table.read(table.header):
            if row_fault(row, source.options.encoding) is None:
                yield row.values


def _windows(
    table: Table,
    columns: Columns,
    predictor: Predictor,
    bad: list[BadRow],
    encoding: str,
    strict: bool,
    skip: int = 0,
) -> Iterator[Window]:
    """The windows of a table from number `skip` on, each read and encoded while the one before it is classified."""
    on_bad = None if strict else bad.append
    batches = _row_windows(table, bad)
    for _ in range(skip):
        next(batches, None)

    def ahead() -> Window | None:
        found = next(batches, None)
        if found is None:
            return None
        rows, unread = found
        good, texts = _readable(rows, table, columns, encoding, on_bad)
        unread += bad
        bad.clear()
        n_empty = sum(not text or text.isspace() for text in texts)
        return Window(good, predictor.encode(texts), sorted(unread), n_empty)

    with ThreadPoolExecutor(1, thread_name_prefix="encode") as pool:
        coming = pool.submit(ahead)
        while (window := coming.result()) is not None:
            coming = pool.submit(ahead)
            yield window


def _row_windows(table: Table, bad: list[BadRow]) -> Iterator[tuple[list[Row], list[BadRow]]]:
    """Rows and unreadable rows, WINDOW of both together at a time; where they are cut depends on the file alone."""
    rows: list[Row] = []
    empty = True
    for row in table.read(table.header):
        empty = False
        rows.append(row)
        if len(rows) + len(bad) >= WINDOW:
            taken = bad[:]
            bad.clear()  # before the window goes out: its reader adds rows of its own to `bad`
            yield rows, taken
            rows = []
    if empty and not bad:
        raise DataError(table.no_rows)
    if rows or bad:
        taken = bad[:]
        bad.clear()
        yield rows, taken


def _readable(
    rows: Sequence[Row], table: Table, columns: Columns, encoding: str, on_bad: OnBad | None
) -> tuple[list[Row], list[str]]:
    """The rows that can be classified and written, and their texts; the others go to `on_bad`."""
    good, texts = [], []
    for row in rows:
        names = row.values.batch.text_names if isinstance(row.values, ArrowRow) else None
        fault = row_fault(row, encoding, names)
        if fault is None:
            try:
                text = columns.text_of(table, row)
            except DataError as error:
                if on_bad is None:
                    raise
                fault = str(error)
            else:
                good.append(row)
                texts.append(text)
                continue
        if on_bad is None:
            raise DataError(f"{place_of(row.number, row.line, table.source)} {fault}")
        on_bad(BadRow(row.number, row.line, fault))
    return good, texts


def n_undecodable(rejects: Path, encoding: str) -> int:
    """How many of the rejected rows hold bytes that are not in the encoding."""
    with rejects.open(encoding="utf-8") as lines:
        return sum(line.rstrip().endswith(f"that is not {encoding}") for line in lines)


class _Pace:
    """Tells a bar how many rows are done, and how many a second."""

    def __init__(self, advance: Callable[[int, str], None], done: int) -> None:
        self._advance, self._started, self._here = advance, time.monotonic(), 0
        if done:
            advance(done, "")

    def __call__(self, n_rows: int) -> None:
        self._here += n_rows
        rate = self._here / max(time.monotonic() - self._started, 1e-9)
        self._advance(n_rows, f"{rate:,.0f} rows/s")


def _estimate_rows(path: Path) -> int | None:
    """How many rows a file has: Parquet says it, of text the lines of its start tell."""
    if not path.is_file():
        return None
    if first_bytes(path).startswith(PARQUET):
        from pyarrow import parquet

        return int(parquet.read_metadata(path).num_rows)
    with read_errors(path, "utf-8"), path.open("rb") as raw:
        packed = raw.read(2) == GZIP
        raw.seek(0)
        sample: bytes = gzip.GzipFile(fileobj=raw).read(SAMPLED_BYTES) if packed else raw.read(SAMPLED_BYTES)
        used = raw.tell()
    lines = sample.count(b"\n")
    return max(1, round(lines * path.stat().st_size / used)) if used else None
