"""A job whose output is a folder of parts, each of which any worker on any machine can write.

    scored/
      job.json                describes the job: the input and its plan, the classifier, the settings; written first
      part-000000.csv         part 0, a whole file
      part-000000.rejects.csv its rows that could not be read, if any
      part-000000.json        its marker: rows, sizes and checksums; written after the part
      manifest.json           rows, and the checksums of all parts; written last

Part p is a function of the input, the classifier, the settings and p, so it does not matter who writes it: two workers
on one part write the same bytes. A part counts when its marker is there and agrees with the files that the listing
shows.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lasttoken.bulk import windows
from lasttoken.bulk.answers import added_names
from lasttoken.bulk.inputs import list_inputs, would_name
from lasttoken.bulk.parts import Counts
from lasttoken.bulk.plan import Plan, make_plan
from lasttoken.bulk.store import Listed, Store
from lasttoken.core.columns import UNNAMED, ColumnSpec
from lasttoken.core.documents import STRICT, checked
from lasttoken.core.errors import RunError, SettingsError
from lasttoken.core.progress import Reporter
from lasttoken.data.columns import choose_columns
from lasttoken.data.tables.formats import FORMATS, output_format
from lasttoken.data.tables.options import DEFAULT, ReadOptions
from lasttoken.data.tables.writing import AddedColumn, ColumnKind, OutputLayout, TableWriter

FORMAT = 1
JOB, MANIFEST = "job.json", "manifest.json"
KINDS: tuple[ColumnKind, ...] = ("text", "number", "numbers", "flag")  # of the added columns
READERS = 32  # threads that read markers


@dataclass(frozen=True)
class JobSettings:
    """What a user can state about a job, besides its input, its output and its classifier."""

    columns: ColumnSpec = UNNAMED
    options: ReadOptions = DEFAULT
    trained: ColumnSpec | None = None  # the training's columns, see `Source`
    top_k: int | None = None
    strict: bool = False
    spreadsheet_safe: bool = False
    format: str | None = None  # the suffix of the parts, such as jsonl or csv.gz; None: by the input
    part_rows: int | None = None  # rows of a part, about; None: see `make_plan`

    def to_json(self) -> dict[str, Any]:
        """The settings as job.json records them."""
        content = {**asdict(self), "window": windows.WINDOW}
        return json.loads(json.dumps(content, default=str))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Part:
    """A finished part, as its marker records it."""

    __pydantic_config__ = STRICT

    number: int
    key: str  # of the job
    counts: Counts
    n_lines: int  # of the input
    files: dict[str, tuple[int, str]]  # suffix → size in bytes, SHA-256

    def to_json(self) -> bytes:
        """The content of the marker."""
        return (json.dumps(asdict(self), sort_keys=True) + "\n").encode()


@dataclass(frozen=True)
class Job:
    """A job of a folder of parts. It is a small value that can be sent to another process."""

    store: Store
    plan: Plan
    settings: JobSettings
    model: dict[str, Any]  # what identifies the classifier, see `Model.describe`
    text: tuple[str, ...]  # the text columns
    output: tuple[str, bool]  # the format of the parts, and whether they are compressed
    schema: str | None  # Arrow types of the kept columns, in base64, where the rows have none
    window: int  # rows that are classified at a time
    key: str  # identifies all of this

    @property
    def n_parts(self) -> int:
        """How many parts there are."""
        return self.plan.n_parts

    @property
    def writer(self) -> TableWriter:
        """The writer of a part."""
        return _writer(self.plan.header, self.settings, self.output, self.schema)

    def name(self, number: int, suffix: str) -> str:
        """The name of a part's file.

        >>> Job.name(None, 123, ".csv")
        'part-000123.csv'
        """
        return part_name(number, suffix)

    def missing(self, shard: int = 0, n_shards: int = 1) -> Iterator[int]:
        """The numbers of the parts that are not finished, in order; with a shard, those p with p mod n = shard.

        One listing, and the marker of each part that seems to be finished.
        """
        numbers = range(shard, self.n_parts, n_shards)
        return iter([number for number, part in self._parts(numbers, self.store.names()) if part is None])

    def finish(self) -> Summary | None:
        """Write the manifest, if all parts are finished; None if they are not.

        Raises:
            RunError: another job has been begun in the same folder.
        """
        listed = self.store.names()
        if any(part_name(number, ".json") not in listed for number in range(self.n_parts)):
            return None  # one listing is enough for the workers that end before the last
        digest, counts = hashlib.sha256(), Counts()
        lines: list[str] = []
        for _, part in self._parts(range(self.n_parts), listed):
            if part is None:
                return None
            counts += part.counts
            line = json.dumps([part.counts.n_rows, part.n_lines, part.counts.n_rejected, part.files], sort_keys=True)
            digest.update(line.encode())
            lines.append(line)
        self.check_still_ours()
        self.store.sweep()
        summary = Summary(counts, self.n_parts, self.store)
        head = {
            "format": FORMAT,
            "key": self.key,
            "counts": asdict(counts),
            "output": list(self.output),
            "model": self.model,
            "settings": self.settings.to_json(),
            "input": [[file.name, file.size, file.version] for file in self.plan.files],
            "sha256 of the parts": digest.hexdigest(),
            "columns of the parts": ["n_rows", "n_lines", "n_rejected", "files"],
        }
        text = json.dumps(head, indent=1, sort_keys=True)[: -len("\n}")]
        content = "".join((text, ',\n "parts": [\n', ",\n".join(lines), "\n ]\n}\n")).encode()
        with suppress(FileNotFoundError):
            if self.store.read(MANIFEST) == content:
                return summary
        self.store.write(MANIFEST, content)
        return summary

    def check_still_ours(self) -> None:
        """Notice that the folder was given to another job, by --restart.

        Raises:
            RunError: it was.
        """
        try:
            recorded = json.loads(self.store.read(JOB)).get("key")
        except (FileNotFoundError, ValueError, AttributeError):
            recorded = None
        if recorded != self.key:
            raise RunError(
                f"{self.store.url} was removed or given to another job while this one ran; run the command again, and "
                "give each job an output of its own"
            )

    def _parts(self, numbers: Iterable[int], listed: Mapping[str, Listed]) -> Iterator[tuple[int, Part | None]]:
        """Each number and its part, if it is finished."""

        def part_of(number: int) -> tuple[int, Part | None]:
            return number, self.read_part(number, listed)

        if self.store.is_local:
            yield from map(part_of, numbers)
            return
        with ThreadPoolExecutor(READERS, "markers") as pool:
            yield from pool.map(part_of, numbers)

    def read_part(self, number: int, listed: Mapping[str, Listed]) -> Part | None:
        """A part, if it is finished and the listed files have the sizes that its marker states."""
        marker = part_name(number, ".json")
        if marker not in listed:
            return None
        try:
            part = checked(Part, json.loads(self.store.read(marker)), self.store.place(marker))
        except (FileNotFoundError, ValueError):  # RunError is a ValueError
            return None
        sizes = {suffix: listed.get(part_name(number, suffix)) for suffix in part.files}
        agrees = all(found is not None and found.size == part.files[suffix][0] for suffix, found in sizes.items())
        return part if agrees and (part.number, part.key) == (number, self.key) else None


@dataclass(frozen=True)
class Summary:
    """A finished job."""

    counts: Counts
    n_parts: int
    store: Store = field(repr=False)


def part_name(number: int, suffix: str) -> str:
    """The name of a part's file.

    >>> part_name(123, ".csv")
    'part-000123.csv'
    """
    return f"part-{number:06d}{suffix}"


# Opening ----------------------------------------------------------------------------------------------------------


def open_job(
    inputs: str,
    output: str,
    settings: JobSettings,
    model: dict[str, Any],
    *,
    restart: bool = False,
    reporter: Reporter | None = None,
) -> Job:
    """Begin a job, or continue the one that the output holds. Nothing is computed here.

    Args:
        inputs: a path, a URL, a glob or a folder.
        output: the folder of the parts: a path or a URL.
        settings: all else that a part depends on.
        model: what identifies the classifier, see `Model.describe`.
        restart: remove the parts of an earlier job first.
        reporter: is told which columns were guessed.

    Raises:
        DataError: an input that cannot be read, files with different columns, or no file.
        RunError: the output holds another job, or files that no job wrote; or the input has changed.
        SettingsError: the output lies in the input; or see store.py.
        StorageError: see store.py.
    """
    store = Store(output)
    listed = store.names()
    _check_folder(store, listed)
    if restart:
        remove_job(store, listed)
        listed = {}
    if JOB in listed:
        return _continued(inputs, store, settings, model)
    return _begun(inputs, store, settings, model, reporter or Reporter())


def _begun(inputs: str, store: Store, settings: JobSettings, model: dict[str, Any], reporter: Reporter) -> Job:
    """A new job, described in job.json."""
    asked = [*settings.columns.names, *(settings.trained or UNNAMED).names]
    plan, table = make_plan(inputs, settings.options, asked, settings.part_rows, settings.strict)
    columns = choose_columns(table, settings.columns, labelled=False, trained=settings.trained)
    for note in columns.notes:
        reporter.say(note)
    kind = part_format(settings, plan)
    schema = _schema(plan, settings, kind)
    writer = _writer(plan.header, settings, kind, schema)  # rejects settings that do not fit the format
    check_apart(inputs, store.url, (store.place(name) for name in (JOB, part_name(0, writer.suffix))))
    content = {
        "format": FORMAT,
        "input": plan.to_json(),
        "model": model,
        "output": list(kind),
        "schema": schema,
        "settings": settings.to_json(),
        "text": list(columns.spec.text),
        "window": windows.WINDOW,
    }
    key = _key(content)
    store.write(JOB, (json.dumps({**content, "key": key}, indent=1, sort_keys=True) + "\n").encode())
    return _job(store, plan, settings, content, key)


def check_apart(inputs: str, output: str, files: Iterable[str]) -> None:
    """Reject an output that would be read as input the next time; `files`: what it consists of.

    Raises:
        SettingsError: one of the files lies in the input's folder, or its glob matches it.
    """
    if any(would_name(inputs, file) for file in files):
        raise SettingsError(
            f"--output {output} is among the files that --input {inputs} names, so the same command could not be "
            "repeated; give an output elsewhere"
        )


def _continued(inputs: str, store: Store, settings: JobSettings, model: dict[str, Any]) -> Job:
    """The job that the output holds, if it is this one."""
    content, key = read_job(store)
    recorded = {"model": content["model"], "settings": content["settings"]}
    for name, present in (("model", model), ("settings", settings.to_json())):
        if recorded[name] != present:
            differs = [key for key in present if present[key] != recorded[name].get(key)]
            what = "another classifier" if name == "model" else f"other settings ({', '.join(differs)})"
            raise RunError(
                f"{store.url} holds a job with {what}; repeat that job's command to continue it, pass --restart to "
                "discard it, or give another --output"
            )
    plan = Plan.from_json(content["input"], list_inputs(inputs), store.place(JOB))
    return _job(store, plan, settings, content, key)


def read_job(store: Store) -> tuple[dict[str, Any], str]:
    """The content of a folder's job.json, and its key.

    Raises:
        RunError: there is none, or it is another file of that name, of another version, or was changed.
    """
    where = store.place(JOB)
    try:
        content = json.loads(store.read(JOB))
        key = content.pop("key")
        if content["format"] == FORMAT and key == _key(content):
            return content, key
    except FileNotFoundError as error:
        raise RunError(
            f"{store.url} holds no {JOB}: it is not an output of predict; give the folder of a job"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{where} is not a job of lasttoken; give the folder of a job, or pass --restart to start one there"
        ) from error
    raise RunError(f"{where} was changed or is of another version; pass --restart to start again")


def read_manifest(store: Store, key: str) -> dict[str, Any] | None:
    """The manifest of the job with this key; None: it is not finished, or the file is another one of that name."""
    try:
        manifest = json.loads(store.read(MANIFEST))
    except (FileNotFoundError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("key") == key else None


def _job(store: Store, plan: Plan, settings: JobSettings, content: Mapping[str, Any], key: str) -> Job:
    output = (content["output"][0], content["output"][1])
    text = tuple(content["text"])
    return Job(store, plan, settings, content["model"], text, output, content["schema"], content["window"], key)


def _key(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_folder(store: Store, listed: Mapping[str, Listed]) -> None:
    """Reject a folder with files that no job wrote."""
    if listed and JOB not in listed:
        raise RunError(
            f"--output {store.url} holds {min(listed)!r} and is not the folder of a lasttoken job; give a new folder"
        )


def remove_job(store: Store, listed: Mapping[str, Listed]) -> None:
    """Remove a job's files: the manifest first and job.json last, so that the rest is a job's until the end."""
    names = [name for name in listed if name not in (JOB, MANIFEST) and name.startswith("part-")]
    for name in (
        *(name for name in (MANIFEST,) if name in listed),
        *sorted(names),
        *(n for n in (JOB,) if n in listed),
    ):
        store.remove(name)


def part_format(settings: JobSettings, plan: Plan) -> tuple[str, bool]:
    """The format of the parts, and whether they are compressed: as the user says, else that of the input, else CSV.

    Raises:
        SettingsError: a format that cannot be written.
    """
    if settings.format is not None:
        known, compressed = output_format(Path(f"part.{settings.format}"))
        return known.name, compressed
    name = {"json": "jsonl", "arrow": "parquet"}.get(plan.plans[0].format_name, plan.plans[0].format_name)
    writable = any(known.name == name and known.writer for known in FORMATS)
    return (name if writable else "csv"), False


def layout_writer(content: Mapping[str, Any]) -> TableWriter:
    """The writer of the parts that a job.json describes."""
    recorded = content["settings"]
    settings = JobSettings(ColumnSpec(id=recorded["columns"]["id"]), spreadsheet_safe=recorded["spreadsheet_safe"])
    output = (content["output"][0], content["output"][1])
    return _writer(content["input"]["header"], settings, output, content["schema"])


def _writer(header: Iterable[str], settings: JobSettings, output: tuple[str, bool], schema: str | None) -> TableWriter:
    """The writer of a part, with the columns that are kept and those that scoring adds."""
    written = next(known for known in FORMATS if known.name == output[0])
    assert written.writer is not None
    if settings.spreadsheet_safe and not written.for_spreadsheets:
        names = " and ".join(known.name.upper() for known in FORMATS if known.for_spreadsheets)
        raise SettingsError(f"--spreadsheet-safe is for {names}, and the parts are .{written.name}; leave it out")
    kept = [settings.columns.id] if settings.columns.id else [name for name in header if name]
    layout = OutputLayout(
        tuple(kept),
        tuple(AddedColumn(name, kind) for name, kind in zip(added_names(kept), KINDS, strict=True)),
        output[1],
        settings.spreadsheet_safe,
        every_key=settings.columns.id is None,
        schema=_decoded(schema),
    )
    return written.writer(layout)


def _decoded(schema: str | None) -> Any:
    if schema is None:
        return None
    import pyarrow

    return pyarrow.ipc.read_schema(pyarrow.py_buffer(base64.b64decode(schema)))


def _schema(plan: Plan, settings: JobSettings, output: tuple[str, bool]) -> str | None:
    """The Arrow types that hold all values of rows that have no types, in base64; all rows are read for them."""
    if output[0] != "parquet" or plan.plans[0].format_name not in ("json", "jsonl", "fasttext"):
        return None
    from lasttoken.bulk.parting import all_values
    from lasttoken.data.tables.arrow_types import schema_of_values

    schema = schema_of_values(all_values(plan, settings), [name for name in plan.header if name])
    return base64.b64encode(schema.serialize().to_pybytes()).decode()
