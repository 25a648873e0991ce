"""A finished folder of parts becomes one local file, and the rows that could not be read another.

    part-000000.csv  head rows ┐
    part-000001.csv  head rows ├─►  scored.csv   head rows rows …      each part is compared with its checksum first
    manifest.json              ┘

Rows that could not be read are numbered within their part; here they get the numbers of their file.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lasttoken.bulk.parts import REJECT_COLUMNS, REJECTS, Counts, rejects_of
from lasttoken.bulk.pieces import FilePlan
from lasttoken.bulk.store import Store, is_url, local_path
from lasttoken.bulk.work import MANIFEST, layout_writer, part_name, read_job, read_manifest
from lasttoken.core.errors import RunError, SettingsError, StorageError
from lasttoken.core.locks import exclusive
from lasttoken.core.scratch import scratch_folder
from lasttoken.core.storage import new_file, storage_errors
from lasttoken.data.tables.cells import csv_line
from lasttoken.data.tables.formats import output_format
from lasttoken.data.tables.writing import TableWriter, TextWriter


@dataclass(frozen=True)
class Joined:
    """A file that was joined from parts."""

    counts: Counts
    rejects: Path | None  # the file of the rows that could not be read


def join_parts(store: Store, output: Path) -> Joined:
    """Write the rows of a finished job to one local file.

    Raises:
        RunError: the job is not finished, or there is none.
        SettingsError: another format than that of the parts, or a file among them.
        StorageError: a part is missing or was changed; no permission, or a full disk.
    """
    job, manifest = read_finished(store)
    _check_apart(store, output)
    kind, compressed = output_format(output)
    if [kind.name, compressed] != manifest["output"]:
        suffix = layout_writer(job).suffix
        raise SettingsError(f"the parts in {store.url} are {suffix}, and --output is {output}; give it that suffix")
    writer, rows = layout_writer(job), Counts(**manifest["counts"])
    if not rows.n_rows and not writer.can_be_empty:
        raise RunError(f"no row of {store.url} was classified, so there is nothing to write to {output}")
    with exclusive(output), new_file(output) as path:
        if isinstance(writer, TextWriter):
            _join_text(store, manifest, writer, path)
        else:
            _join_files(store, manifest, writer, path)
        return Joined(rows, _join_rejects(store, job, manifest, rejects_of(output)))


def join_to(store: Store, output: str) -> Joined:
    """Write the rows of a finished job to one file, which may be remote."""
    if not is_url(output):
        return join_parts(store, local_path(output))
    with scratch_folder("join") as folder:
        path = folder / output.rsplit("/", 1)[1]
        joined = join_parts(store, path)
        there = Store(output.rsplit("/", 1)[0])
        if joined.rejects:
            there.write(joined.rejects.name, joined.rejects.read_bytes())
        there.write_file(path.name, path)
        return Joined(joined.counts, joined.rejects and Path(there.place(joined.rejects.name)))


def read_finished(store: Store) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job.json and the manifest of a finished job.

    Raises:
        RunError: it is not finished, or there is none.
    """
    job, key = read_job(store)
    manifest = read_manifest(store, key)
    if manifest is None:
        raise RunError(
            f"{store.url} has no {MANIFEST} of its job, which is not finished then; repeat its command, and see "
            "predict --status"
        )
    return job, manifest


def _check_apart(store: Store, output: Path) -> None:
    """Reject an output that would replace a file of the job.

    Raises:
        SettingsError: it lies in the job's folder.
    """
    if store.is_local and output.resolve().parent == store.folder.resolve():
        raise SettingsError(
            f"--output {output} lies in {store.url}, among the parts; give a file outside of that folder"
        )


def _contents(store: Store, manifest: Mapping[str, Any], suffix: str) -> Iterator[tuple[int, bytes]]:
    """The content of each part's file of this suffix, checked.

    Raises:
        StorageError: it is missing or was changed.
    """
    for number, (_, _, _, files) in enumerate(manifest["parts"]):
        if suffix not in files:
            continue
        name = part_name(number, suffix)
        try:
            content = store.read(name)
        except FileNotFoundError:
            content = b""
        if hashlib.sha256(content).hexdigest() != files[suffix][1]:
            raise StorageError(
                f"{store.place(name)} is missing or was changed since it was written; remove it, and repeat the job's "
                "command to write it again"
            )
        yield number, content


def _join_text(store: Store, manifest: Mapping[str, Any], writer: TextWriter, path: Path) -> None:
    """The head once, and the rows of all parts."""
    head = writer.encoded(writer.head()) if writer.head() else b""
    with path.open("wb") as whole:
        whole.write(head)
        for _, content in _contents(store, manifest, writer.suffix):
            whole.write(content[len(head) :])


def _join_files(store: Store, manifest: Mapping[str, Any], writer: TableWriter, path: Path) -> None:
    with scratch_folder("join") as folder:
        parts = []
        for number, content in _contents(store, manifest, writer.suffix):
            parts.append(folder / part_name(number, writer.suffix))
            parts[-1].write_bytes(content)
        writer.join(parts, path)


def _join_rejects(store: Store, job: Mapping[str, Any], manifest: Mapping[str, Any], path: Path) -> Path | None:
    """Write the rows that could not be read, with their numbers in their file."""
    files = [(entry["name"], FilePlan.from_json(entry)) for entry in job["input"]["files"]]
    starts: list[tuple[str, int, int]] = []  # of each part: its file, and the rows and lines of that file before it
    numbers = iter(manifest["parts"])
    for name, plan in files:
        n_rows, n_lines = 0, plan.lines_before
        for _ in range(plan.n_pieces):
            part_rows, part_lines, part_rejected, _ = next(numbers)
            starts.append((name, n_rows, n_lines))
            n_rows, n_lines = n_rows + part_rows + part_rejected, n_lines + part_lines
    lines = []
    for number, content in _contents(store, manifest, REJECTS):
        name, n_rows, n_lines = starts[number]
        for row, line, reason in list(csv.reader(io.StringIO(content.decode(), newline="")))[1:]:
            cells = (str(int(row) + n_rows), str(int(line) + n_lines) if line else "", reason)
            lines.append(csv_line(cells if len(files) == 1 else (name, *cells)))
    with storage_errors(path):
        path.unlink(missing_ok=True)
    if not lines:
        return None
    head = csv_line(REJECT_COLUMNS if len(files) == 1 else ("file", *REJECT_COLUMNS))
    with new_file(path) as temporary:
        temporary.write_text(head + "".join(lines), "utf-8", newline="")
    return path
