"""One part of a job is read, classified and written: the same bytes whoever does it.

piece of the input ─► windows ─► answers ─► a file for each window ─► one file ─► part-000123.csv ─► part-000123.json
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from lasttoken.bulk.inputs import check_unchanged
from lasttoken.bulk.job import classify, values_of
from lasttoken.bulk.parts import REJECT_COLUMNS, REJECTS, Counts
from lasttoken.bulk.pieces import fetch_piece
from lasttoken.bulk.plan import Piece, Plan
from lasttoken.bulk.windows import Input, read_windows
from lasttoken.bulk.work import Job, JobSettings, Part, part_name
from lasttoken.classifier.predict import Predictor
from lasttoken.core.columns import UNNAMED
from lasttoken.core.device import CPU
from lasttoken.core.scratch import scratch_folder
from lasttoken.core.storage import storage_errors
from lasttoken.data.columns import Columns
from lasttoken.data.tables.cells import csv_line
from lasttoken.data.tables.cuts import read_piece
from lasttoken.data.tables.format import ReadRequest
from lasttoken.data.tables.opening import open_table
from lasttoken.data.tables.table import BadRow, OnBad, Row, Table, listed, report_bad, row_fault

COUNTED_BYTES = 1 << 20  # in which line ends are counted at a time


def score_part(job: Job, number: int, predictor: Predictor) -> Part:
    """Classify the rows of part `number` and write its files, its marker last; when this returns, it is finished.

    Raises:
        DataError: the input cannot be read, or with `strict` a row of it; or it was changed.
        RunError: the folder was given to another job.
        StorageError: see store.py.
    """
    writer, piece = job.writer, job.plan.piece(number)
    if predictor.device == CPU:
        predictor.classifier.pack_trunk()  # whatever this process has computed before: packed or not changes last bits
    counts = Counts()
    files: list[Path] = []  # one for each window
    bad: list[BadRow] = []
    with scratch_folder("part") as folder, ExitStack() as stack:
        stack.enter_context(storage_errors(folder))
        path = fetch_piece(piece.file, piece.plan, piece.start, piece.end, _made(folder / "in"))
        for window in read_windows(_input(job, piece, path, stack), predictor):
            answers = classify(predictor, window, job.settings.top_k)
            counts += window.counts
            bad += window.bad
            if window.rows:
                files.append(folder / f"{len(files)}{writer.suffix}")
                writer.write_part(files[-1], [row.values for row in window.rows], values_of(answers), None)
        contents: dict[str, bytes] = {}
        if bad:
            lines = [REJECT_COLUMNS, *((str(row.number), str(row.line or ""), row.reason) for row in bad)]
            contents[REJECTS] = "".join(map(csv_line, lines)).encode()
        if files:
            writer.join(files, folder / "whole")
            contents[writer.suffix] = (folder / "whole").read_bytes()
        n_lines = _count_lines(path) if piece.end is not None and piece.plan.kind != "rows" else 0
    described = {suffix: (len(content), hashlib.sha256(content).hexdigest()) for suffix, content in contents.items()}
    part = Part(number, job.key, counts, n_lines, described)
    check_unchanged(piece.file)
    job.check_still_ours()
    for suffix, content in contents.items():
        job.store.write(part_name(number, suffix), content)
    job.store.write(part_name(number, ".json"), part.to_json())
    return part


def all_values(plan: Plan, settings: JobSettings) -> Iterator[Mapping[str, object]]:
    """The values of all readable rows of an input."""
    for number in range(plan.n_parts):
        piece = plan.piece(number)
        with scratch_folder("types") as folder, ExitStack() as stack:
            path = fetch_piece(piece.file, piece.plan, piece.start, piece.end, folder)
            table = _table(piece, path, plan.header, settings, lambda _: None, stack)
            for row in table.read(table.header):
                if row_fault(row, settings.options.encoding) is None:
                    yield row.values


def _input(job: Job, piece: Piece, path: Path, stack: ExitStack) -> Input:
    """The rows of a piece as the reader of windows takes them."""
    bad: list[BadRow] = []
    settings = job.settings
    on_bad = None if settings.strict else bad.append
    table = _table(piece, path, job.plan.header, settings, on_bad, stack)
    if job.settings.columns.id is None:
        table = _with_known_keys(table, job, on_bad)
    columns = Columns(replace(settings.columns, text=job.text), (), job.plan.header)
    return Input(table, columns, settings.options.encoding, bad, settings.strict, job.window, may_be_empty=True)


def _table(
    piece: Piece, path: Path, header: Sequence[str], settings: JobSettings, on_bad: OnBad | None, stack: ExitStack
) -> Table:
    """The rows of a piece."""
    options, plan = settings.options, piece.plan
    if plan.kind in ("lines", "records"):
        request = ReadRequest(path, options, stack, on_bad=on_bad, labelled=False)
        return read_piece(request, plan.format_name, list(header), plan.dialect)
    asked = [*settings.columns.names, *(settings.trained or UNNAMED).names]
    return stack.enter_context(open_table(path, options=options, asked=asked, on_bad=on_bad, labelled=False))


def _with_known_keys(table: Table, job: Job, on_bad: OnBad | None) -> Table:
    """The table without rows of JSON that have a key which the output could not hold: there is no such column.

    The columns of the output are found in the first rows of each file. A key that comes later is copied to JSON lines,
    unless it has the name of an added column.
    """
    if job.plan.plans[0].format_name not in ("json", "jsonl"):
        return table
    known, added = set(job.plan.header), {column.name for column in job.writer.layout.added}
    copies_all = job.output[0] == "jsonl"

    def read(columns: Sequence[str]) -> Iterator[Row]:
        for row in table.read(columns):
            late = row.values.keys() - known
            if late and (not copies_all or late & added):
                fault = (
                    f"has the key {listed(sorted(late & added if copies_all else late))}, which no row at the start of "
                    "its file has; move such a row to the start, or write .jsonl"
                )
                report_bad(BadRow(row.number, row.line, fault), table.source, on_bad)
            else:
                yield row

    return replace(table, read=read)


def _count_lines(path: Path) -> int:
    n_lines = 0
    with path.open("rb") as file:
        while block := file.read(COUNTED_BYTES):
            n_lines += block.count(b"\n")
    return n_lines


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
