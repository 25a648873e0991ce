"""The command predict: labels for texts, for a file of rows, or for lines on stdin."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lasttoken.cli.flags import (
    Cost,
    Device,
    Json,
    Precision,
    Quiet,
    RunDirectory,
    TextColumns,
    Threshold,
    read_options,
    with_settings,
)
from lasttoken.cli.outputs import check_output
from lasttoken.cli.show import print_line, rows_to_stdout, terminal
from lasttoken.core.columns import ColumnSpec
from lasttoken.core.documents import to_json
from lasttoken.core.errors import DataError, SettingsError
from lasttoken.core.progress import Reporter, printable_json
from lasttoken.data.tables.formats import output_format, writable_suffixes
from lasttoken.data.tables.json_rows import JSON_LINES

if TYPE_CHECKING:
    from lasttoken.classifier.predict import Prediction, Predictor
    from lasttoken.data.tables.options import ReadOptions

WINDOW = 4096  # lines of stdin that are classified and printed at a time
ABSTAINED = "-"  # printed in place of a label when no label is probable enough
N_PROBABILITIES = 5  # printed for a text


Texts = Annotated[list[str] | None, typer.Argument(help="Texts to classify.")]
InputFile = Annotated[
    str | None, typer.Option("--input", help="A file of rows, or - for stdin with one text per line.")
]
OutputFile = Annotated[
    Path | None,
    typer.Option("--output", help=f"File to write, with one of the suffixes {writable_suffixes()}; default: stdout."),
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


@dataclass(frozen=True)
class FileFlags:
    """The flags that have an effect on files only, by their names in `predict`."""

    output: Path | None
    text: list[str] | None
    id: str | None
    top_k: int | None
    strict: bool
    restart: bool
    spreadsheet_safe: bool


@with_settings("predict")
def predict(
    run: RunDirectory,
    texts: Texts = None,
    input: InputFile = None,
    output: OutputFile = None,
    text: TextColumns = None,
    id: IdColumn = None,
    top_k: TopK = None,
    strict: Strict = False,
    restart: Restart = False,
    spreadsheet_safe: SpreadsheetSafe = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threshold: Threshold = None,
    cost: Cost = None,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Classify texts, a file, or stdin.

    Prints the label, its probability and the most probable labels; with --json all labels.
    """
    if bool(texts) == (input is not None):
        raise SettingsError("give either texts, such as lasttoken predict RUN 'some text', or --input FILE (-: stdin)")
    options = read_options(flags)
    file_flags = FileFlags(output, text, id, top_k, strict, restart, spreadsheet_safe)
    _check_file_flags(input, file_flags, options, as_json)
    reporter = terminal(quiet)

    def load() -> Predictor:
        from lasttoken.classifier.predict import Predictor
        from lasttoken.core.process import tune_cpu

        tune_cpu()
        predictor = Predictor.load(run, device, precision)
        predictor.answer_by(threshold, cost)
        return predictor

    if texts is not None and texts:
        _predict_texts(texts, load(), as_json, reporter)
    elif input == "-":
        _predict_stdin(load, options.encoding, as_json, reporter)
    else:
        _predict_file(load, run, Path(str(input)), options, file_flags, as_json, reporter)


def _check_file_flags(input: str | None, flags: FileFlags, options: ReadOptions, as_json: bool) -> None:
    """Reject flags that have an effect only on files, and an output that cannot be written.

    Raises:
        SettingsError: names the flag.
    """
    values = {f"--{name.replace('_', '-')}": value for name, value in vars(flags).items()}
    values |= {"--no-header": not options.header, "--separator": options.separator}
    values |= {"--format": options.format if options.format != "txt" else None}
    used = next((flag for flag, value in values.items() if value), None)
    if used and input in (None, "-"):
        hint = ", or read a table from a pipe with --input /dev/stdin" if input == "-" else ""
        raise SettingsError(f"{used} goes with --input FILE only; put the texts in a file, leave {used} out{hint}")
    output = flags.output
    if output is not None:
        check_output("--output", output)
        if output.exists() and input is not None and output.samefile(input):
            raise SettingsError(f"--output {output} is the file that --input reads; give another")
        output_format(output)
    if flags.top_k is not None and flags.top_k < 1:
        raise SettingsError(f"--top-k is {flags.top_k}; it must be at least 1")
    if as_json and output and output_format(output)[0] is not JSON_LINES:
        raise SettingsError(f"--json writes .jsonl, and --output is {output}; leave one of them out")


# Texts and stdin --------------------------------------------------------------------------------------------------


def _predict_stdin(load: Callable[[], Predictor], encoding: str, as_json: bool, reporter: Reporter) -> None:
    """Classify the lines of stdin; on a terminal each line is answered at once."""
    if sys.stdin is None:
        raise SettingsError("--input - reads stdin, which is closed; pipe one text per line into it")
    predictor = load()
    for lines in _windows(_stdin_lines(encoding), 1 if sys.stdin.isatty() else WINDOW):
        _predict_texts(lines, predictor, as_json, reporter)


def _stdin_lines(encoding: str) -> Iterator[str]:
    """The lines on stdin, without line ends."""
    from lasttoken.data.tables.encodings import codec_name

    lines = io.TextIOWrapper(sys.stdin.buffer, codec_name(encoding), newline="\n")
    try:
        for line in lines:
            yield line.removesuffix("\n").removesuffix("\r")
    except UnicodeError as error:
        raise DataError(
            f"stdin is not {encoding} ({error}); name its encoding with --encoding, such as cp1252"
        ) from error


def _windows(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lists of `size` lines; the last one may be shorter."""
    iterator = iter(lines)
    while window := list(islice(iterator, size)):
        yield window


def _predict_texts(texts: Sequence[str], predictor: Predictor, as_json: bool, reporter: Reporter) -> None:
    """Print a line for each text."""
    for text, prediction in zip(texts, predictor.predict(texts), strict=True):
        if prediction.truncated:
            reporter.say(f"a text was cut to {prediction.n_tokens} tokens")
        if not text.strip():
            reporter.say("a text is empty: the prediction reflects only the prior")
        if as_json:
            print(printable_json(to_json({"text": text, **vars(prediction)})), flush=True)
        else:
            print_line(_line(text, prediction, predictor.classifier.config.separator), flush=True)


def _line(text: str, prediction: Prediction, separator: str | None) -> str:
    """Label, probability, the probabilities of the first labels, and the text, with tabs between them."""
    ranked = sorted(prediction.probs.items(), key=lambda item: -item[1])[:N_PROBABILITIES]
    probs = ", ".join(f"{_escaped(label)} {p:.3f}" for label, p in ranked)
    labels = _escaped((separator or "").join(prediction.labels)) or ABSTAINED
    return f"{labels}\t{prediction.score:.3f}\t{probs}\t{' '.join(text.split())}"


def _escaped(label: str) -> str:
    """A label whose tabs and line ends are escaped, so that they do not break the line."""
    return label.replace("\t", "\\t").replace("\r", "\\r").replace("\n", "\\n")


# Files ------------------------------------------------------------------------------------------------------------


def _predict_file(
    load: Callable[[], Predictor], run: Path, input: Path, options: ReadOptions, flags: FileFlags, as_json: bool,
    reporter: Reporter,
) -> None:  # fmt: skip
    """Classify the rows of a file into another file or to stdout, and report rows that need attention."""
    from lasttoken.bulk.job import Source, score_file, score_to_stream
    from lasttoken.bulk.summary import sentences
    from lasttoken.classifier.checkpoint import trained_columns

    columns = ColumnSpec(tuple(flags.text or ()), id=flags.id)
    source = Source(input, columns, options, trained_columns(run), flags.spreadsheet_safe)
    if flags.output is None:
        result = score_to_stream(load, source, rows_to_stdout(as_json), as_json, flags.top_k, reporter)
    else:
        result = score_file(
            load,
            source,
            flags.output,
            top_k=flags.top_k,
            strict=flags.strict,
            restart=flags.restart,
            reporter=reporter,
        )
    for sentence in sentences(result, source):
        reporter.say(sentence)
