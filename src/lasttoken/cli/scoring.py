"""`predict --input`: where the rows go (a file, a folder of parts, stdout), who computes them, and how far a job is."""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lasttoken.bulk.inputs import GLOB
from lasttoken.bulk.store import SCHEME
from lasttoken.cli.outputs import check_output
from lasttoken.cli.show import print_json, print_line, rows_to_stdout
from lasttoken.core.columns import ColumnSpec
from lasttoken.core.errors import SettingsError
from lasttoken.core.machine import check_room
from lasttoken.core.progress import Reporter
from lasttoken.data.tables.formats import format_by_suffix, output_format, writable_suffixes
from lasttoken.data.tables.json_rows import JSON_LINES

if TYPE_CHECKING:
    from lasttoken.bulk.model import Model
    from lasttoken.bulk.work import Job, JobSettings
    from lasttoken.classifier.predict import Predictor
    from lasttoken.data.tables.options import ReadOptions

MOST_WORKERS = 1024

InputFile = Annotated[
    str | None,
    typer.Option(
        "--input",
        help="A file of rows, a URL such as s3://bucket/in.csv, a glob, a folder; or - for stdin, one text per line.",
    ),
]
OutputFile = Annotated[
    str | None,
    typer.Option(
        "--output",
        help=f"File to write, with one of the suffixes {writable_suffixes()}; or a folder of parts, which ends in /. "
        "Both may be URLs. Default: stdout.",
    ),
]
IdColumn = Annotated[str | None, typer.Option("--id", help="Keep only this column beside the predictions.")]
TopK = Annotated[
    int | None,
    typer.Option("--top-k", help="Probabilities to write per row; default: of all labels if at most 10, else 5."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first row that cannot be read.")]
Restart = Annotated[bool, typer.Option("--restart", help="Discard the work of a killed job, and start again.")]
SpreadsheetSafe = Annotated[
    bool,
    typer.Option(
        "--spreadsheet-safe", help="In CSV and TSV, put ' before cells that a spreadsheet would run as formulas."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Processes on this machine, which share its threads and GPUs. [default: 1]"),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard", help="i/n: write only the parts p with p mod n = i; i counts from 0. For job arrays; needs a folder."
    ),
]
PartFormat = Annotated[
    str | None,
    typer.Option("--part-format", help="Suffix of the parts, such as jsonl or csv.gz; default: the input's."),
]
PartRows = Annotated[
    int | None,
    typer.Option("--part-rows", help="Rows of a part, about; default: 4096, and more for over 40 million rows."),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Hand out parts with Ray: local starts it here, auto or HOST:PORT is a cluster; needs a folder.",
    ),
]
RayActors = Annotated[
    str | None,
    typer.Option(
        "--ray-actors",
        metavar="MIN,MAX",
        help="Actors of Ray, with a classifier each. [default: 1, and as many as there are CPUs or GPUs]",
    ),
]
StatusOf = Annotated[
    str | None, typer.Option("--status", help="Print how far the job of this folder or URL is. No run is needed.")
]
Join = Annotated[
    str | None,
    typer.Option("--join", help="Write the parts of this finished folder or URL to one --output. No run is needed."),
]


@dataclass(frozen=True)
class FileFlags:
    """The flags that have an effect on files only, by their names in `predict`."""

    output: str | None
    text: list[str] | None
    id: str | None
    top_k: int | None
    strict: bool
    restart: bool
    spreadsheet_safe: bool
    workers: int | None
    shard: str | None
    part_format: str | None
    part_rows: int | None
    ray: str | None = None
    ray_actors: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether the output is a folder of parts."""
        return self.output is not None and is_folder_output(self.output)

    @property
    def part_suffix(self) -> str | None:
        """`part_format` in small letters, without the dot that it may begin with."""
        return None if self.part_format is None else self.part_format.lower().removeprefix(".")


def is_folder_output(output: str) -> bool:
    """Whether an output is a folder of parts: it ends in /, is a folder, or is a URL without a file's suffix.

    >>> [is_folder_output(name) for name in ("scored/", "s3://bucket/scored", "s3://bucket/a.csv", "scored", "a.csv")]
    [True, True, False, False, False]
    """
    if SCHEME.match(output) and not output.startswith("file://"):
        path = Path(output)
        return output.endswith("/") or not path.suffix or format_by_suffix(path) is None
    return output.endswith("/") or Path(output.removeprefix("file://")).is_dir()


def check_file_flags(input: str | None, flags: FileFlags, options: ReadOptions, as_json: bool) -> None:
    """Reject flags that have an effect only on files, and an output that cannot be written.

    Raises:
        SettingsError: names the flag.
    """
    values = {f"--{name.replace('_', '-')}": value for name, value in vars(flags).items()}
    values |= {"--no-header": not options.header, "--separator": options.separator}
    values |= {"--format": options.format if options.format != "txt" else None}
    for flag, place in (("--input", input), ("--output", flags.output)):
        if place is not None and not place.strip():
            raise SettingsError(f"{flag} is {place!r}; give a file, a folder or a URL (is a variable empty?)")
    used = next((flag for flag, value in values.items() if value), None)
    if used and input in (None, "-"):
        hint = ", or read a table from a pipe with --input /dev/stdin" if input == "-" else ""
        raise SettingsError(f"{used} goes with --input FILE only; put the texts in a file, leave {used} out{hint}")
    for flag, number, most in (
        ("--top-k", flags.top_k, None),
        ("--workers", flags.workers, MOST_WORKERS),
        ("--part-rows", flags.part_rows, None),
    ):
        if number is not None and number < 1:
            raise SettingsError(f"{flag} is {number}; it must be at least 1")
        if number is not None and most is not None and number > most:
            raise SettingsError(f"{flag} is {number}; it must be at most {most}")
    if flags.workers is not None and flags.workers > 1:
        check_room(flags.workers)
    if not flags.is_folder:
        _check_single_output(input, flags)
    elif flags.part_suffix is not None:
        _check_part_format(flags)
    if flags.shard is not None:
        shard_of(flags.shard)
        if flags.restart:
            raise SettingsError(
                "--restart would remove the parts of the other shards; run once with --restart and no --shard"
            )
    _check_ray(flags)
    _check_json(flags, as_json)


def _check_ray(flags: FileFlags) -> None:
    """Reject flags that have no effect with Ray, or without it."""
    if flags.ray_actors is not None:
        actors_of(flags.ray_actors)
        if flags.ray is None:
            raise SettingsError(f"--ray-actors {flags.ray_actors} needs --ray; add --ray local, or leave it out")
    for flag, value in (("--workers", flags.workers), ("--shard", flags.shard)):
        if flags.ray is not None and value is not None:
            raise SettingsError(
                f"--ray hands out all parts itself, and {flag} {value} was given; leave one of them out"
            )
    if flags.ray is not None and importlib.util.find_spec("ray") is None:
        raise SettingsError("--ray needs Ray, which is not installed; pip install '.[ray]' in lasttoken's folder")


def actors_of(text: str) -> tuple[int, int]:
    """The fewest and the most actors.

    >>> actors_of("4,100")
    (4, 100)

    Raises:
        SettingsError: not MIN,MAX with 1 ≤ MIN ≤ MAX.
    """
    match = re.fullmatch(r"(\d{1,6}),(\d{1,6})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise SettingsError(f"--ray-actors is {text!r}; give MIN,MAX, such as 1,8 for up to eight")
    return int(match[1]), int(match[2])


def _check_single_output(input: str | None, flags: FileFlags) -> None:
    """Reject a file that cannot be written, and flags that need a folder of parts or a file."""
    output = flags.output
    for flag, value in (
        ("--shard", flags.shard),
        ("--part-format", flags.part_format),
        ("--part-rows", flags.part_rows),
        ("--ray", flags.ray),
    ):
        if value is not None:
            where = f"--output is {output}, one file" if output else "there is no --output"
            raise SettingsError(f"{flag} needs a folder of parts, and {where}; end --output with /")
    if output is None:
        if flags.workers is not None and flags.workers > 1:
            raise SettingsError(f"--workers {flags.workers} needs an --output; rows on stdout come from one process")
        return
    if SCHEME.match(output):
        output_format(Path(output))
        return
    path = Path(output)
    check_output("--output", path)
    if path.exists() and input is not None and Path(input).exists() and path.samefile(input):
        raise SettingsError(f"--output {output} is the file that --input reads; give another")
    output_format(path)


def _check_part_format(flags: FileFlags) -> None:
    if re.fullmatch(r"[a-z]+(\.gz)?", flags.part_suffix or ""):
        with suppress(SettingsError):  # it does not name the flag
            output_format(Path(f"part.{flags.part_suffix}"))
            return
    raise SettingsError(
        f"--part-format {flags.part_format} is not a suffix that can be written; use {writable_suffixes()}"
    )


def _check_json(flags: FileFlags, as_json: bool) -> None:
    if not as_json or flags.output is None:
        return
    if flags.is_folder and flags.part_suffix not in (None, "jsonl", "jsonl.gz", "ndjson"):
        raise SettingsError(f"--json writes .jsonl, and --part-format is {flags.part_format}; leave one of them out")
    if not flags.is_folder and output_format(Path(flags.output))[0] is not JSON_LINES:
        raise SettingsError(f"--json writes .jsonl, and --output is {flags.output}; leave one of them out")


def shard_of(text: str) -> tuple[int, int]:
    """The number of a shard, from 0, and how many there are.

    >>> shard_of("3/8")
    (3, 8)

    Raises:
        SettingsError: not i/n with 0 ≤ i < n.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not match:
        raise SettingsError(f"--shard is {text!r}; give i/n, such as 0/8 for the first of eight")
    i, n = int(match[1]), int(match[2])
    if n < 1 or i >= n:
        raise SettingsError(
            f"--shard is {text}: shards count from 0, so i must be below n; the last of {n} is {n - 1}/{n}"
        )
    return i, n


def predict_file(
    load: Callable[[], Predictor],
    model: Callable[[], Model],
    input: str,
    options: ReadOptions,
    flags: FileFlags,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Classify the rows of files into a file, a folder of parts or stdout, and report rows that need attention."""
    is_one_local_file = not SCHEME.match(input) and not Path(input).is_dir() and (
        Path(input).exists() or not GLOB & set(input)
    )  # fmt: skip
    if flags.is_folder:
        with _reached_cluster(flags.ray):
            _into_folder(str(flags.output), model(), input, options, flags, as_json, reporter)
    elif is_one_local_file and not (flags.output and SCHEME.match(flags.output)):
        _into_file(load, model, Path(input), options, flags, as_json, reporter)
    elif flags.output is None:
        raise SettingsError(
            f"--input {input} is read in parts, and stdout is one stream; give an --output, a file or a folder with /"
        )
    else:
        _through_parts(model(), input, options, flags, reporter)


@contextmanager
def _reached_cluster(ray: str | None) -> Iterator[None]:
    """Connected to the Ray cluster at an address, if one is given, before anything is written.

    Raises:
        NetworkError: no cluster answers there.
    """
    if ray in (None, "local"):
        yield
        return
    from lasttoken.bulk.engines.ray import Cluster, connected

    with connected(Cluster(ray)):
        yield


def _into_file(
    load: Callable[[], Predictor],
    model: Callable[[], Model],
    input: Path,
    options: ReadOptions,
    flags: FileFlags,
    as_json: bool,
    reporter: Reporter,
) -> None:
    """Classify the rows of a local file into another or to stdout."""
    from lasttoken.bulk.job import Source, score_file, score_to_stream
    from lasttoken.bulk.spreading import over_workers
    from lasttoken.bulk.summary import sentences
    from lasttoken.classifier.checkpoint import trained_columns

    columns = ColumnSpec(tuple(flags.text or ()), id=flags.id)
    source = Source(input, columns, options, trained_columns(model().run), flags.spreadsheet_safe)
    if flags.output is None:
        result = score_to_stream(load, source, rows_to_stdout(as_json), as_json, flags.top_k, reporter)
    else:
        n = flags.workers or 1
        result = score_file(
            load,
            source,
            Path(flags.output),
            top_k=flags.top_k,
            strict=flags.strict,
            restart=flags.restart,
            reporter=reporter,
            spread=over_workers(model(), n, flags.top_k, flags.strict, reporter) if n > 1 else None,
        )
    for sentence in sentences(result, source):
        reporter.say(sentence)


def _settings(model: Model, options: ReadOptions, flags: FileFlags, part_format: str | None) -> JobSettings:
    from lasttoken.bulk.work import JobSettings
    from lasttoken.classifier.checkpoint import trained_columns

    columns = ColumnSpec(tuple(flags.text or ()), id=flags.id)
    return JobSettings(
        columns,
        options,
        trained_columns(model.run),
        flags.top_k,
        flags.strict,
        flags.spreadsheet_safe,
        part_format,
        flags.part_rows,
    )


def _into_folder(
    output: str, model: Model, input: str, options: ReadOptions, flags: FileFlags, as_json: bool, reporter: Reporter
) -> None:
    """Classify the rows of files into a folder of parts."""
    job = _opened(output, model, input, options, flags, flags.part_suffix or ("jsonl" if as_json else None), reporter)
    _report(job, model, flags, reporter)


def _opened(
    output: str,
    model: Model,
    input: str,
    options: ReadOptions,
    flags: FileFlags,
    part_format: str | None,
    reporter: Reporter,
) -> Job:
    from lasttoken.bulk.work import open_job

    settings = _settings(model, options, flags, part_format)
    return open_job(input, output, settings, model.describe(), restart=flags.restart, reporter=reporter)


def _report(job: Job, model: Model, flags: FileFlags, reporter: Reporter) -> None:
    """Write the parts that are missing, and say what was done."""
    from lasttoken.bulk.spreading import score_folder
    from lasttoken.bulk.summary import part_sentences

    if flags.ray is not None:
        from lasttoken.bulk.engines.ray import Cluster, score_with_ray

        fewest, most = actors_of(flags.ray_actors) if flags.ray_actors else (1, None)
        address = None if flags.ray == "local" else flags.ray
        for sentence in part_sentences(score_with_ray(job, model, Cluster(address, fewest, most), reporter)):
            reporter.say(sentence)
        return
    shard = shard_of(flags.shard) if flags.shard else (0, 1)
    if shard[0] >= job.n_parts:
        reporter.say(f"the job has {job.n_parts:,} parts, so shard {flags.shard} has none to write")
    summary = score_folder(job, model, n_workers=flags.workers or 1, shard=shard, reporter=reporter)
    if summary is None:
        reporter.say(f"shard {flags.shard} is finished; parts of other shards are missing still, see --status")
        return
    for sentence in part_sentences(summary):
        reporter.say(sentence)


def _through_parts(model: Model, input: str, options: ReadOptions, flags: FileFlags, reporter: Reporter) -> None:
    """Classify the rows of several or remote files into one file, by way of a folder of parts beside it."""
    from lasttoken.bulk.joining import join_to
    from lasttoken.bulk.parts import rejects_of
    from lasttoken.bulk.store import is_url, local_path
    from lasttoken.bulk.work import check_apart, remove_job
    from lasttoken.core.locks import exclusive

    output = str(flags.output)
    check_apart(input, output, (output, str(rejects_of(Path(output)))))
    known, compressed = output_format(Path(output))
    part_format = f"{known.name}.gz" if compressed else known.name
    folder = f"{output}.parts"
    with nullcontext() if is_url(output) else exclusive(local_path(folder)):
        job = _opened(folder, model, input, options, flags, part_format, reporter)
        _report(job, model, flags, reporter)
        joined = join_to(job.store, output)
        remove_job(job.store, job.store.names())
        if job.store.is_local:
            with suppress(OSError):  # it holds something else
                job.store.folder.rmdir()
    if joined.rejects:
        reporter.say(f"the rows that could not be read are in {joined.rejects}")


def print_status(place: str, as_json: bool) -> None:
    """Print how far a job is."""
    from lasttoken.bulk.status import status_of
    from lasttoken.bulk.store import Store

    status = status_of(Store(place), time.time())
    if as_json:
        print_json(vars(status))
    else:
        print_line(status.sentence())


def join_folder(place: str, output: str | None, reporter: Reporter) -> None:
    """Write the parts of a finished job to one local file."""
    from lasttoken.bulk.joining import join_parts
    from lasttoken.bulk.store import Store, is_url, local_path

    if output is None or is_url(output) or is_folder_output(output):
        given = f"and it is {output}" if output else "and there is none"
        raise SettingsError(
            f"--join writes one local file, which --output names, {given}; give a path such as scored.csv"
        )
    path = local_path(output)
    check_output("--output", path)
    joined = join_parts(Store(place), path)
    if joined.rejects:
        reporter.say(
            f"{joined.counts.n_rejected:,} rows could not be read; they and the reasons are in {joined.rejects}"
        )
    reporter.say(f"{joined.counts.n_rows:,} rows are in {path}")
