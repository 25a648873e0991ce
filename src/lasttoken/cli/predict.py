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
    TextColumns,
    Threshold,
    read_options,
    with_settings,
)
from lasttoken.cli.scoring import (
    FileFlags,
    IdColumn,
    InputFile,
    Join,
    OutputFile,
    PartFormat,
    PartRows,
    Ray,
    RayActors,
    Restart,
    Shard,
    SpreadsheetSafe,
    StatusOf,
    Strict,
    TopK,
    Workers,
    check_file_flags,
    join_folder,
    predict_file,
    print_status,
)
from lasttoken.cli.show import print_line, terminal
from lasttoken.core.documents import to_json
from lasttoken.core.errors import DataError, SettingsError
from lasttoken.core.progress import Reporter, printable_json

if TYPE_CHECKING:
    from lasttoken.bulk.model import Model
    from lasttoken.classifier.predict import Prediction, Predictor

WINDOW = 4096  # lines of stdin that are classified and printed at a time
ABSTAINED = "-"  # printed in place of a label when no label is probable enough
N_PROBABILITIES = 5  # printed for a text


OptionalRun = Annotated[Path | None, typer.Argument(help="A run directory.", metavar="RUN")]
Texts = Annotated[list[str] | None, typer.Argument(help="Texts to classify.")]


@with_settings("predict")
def predict(
    run: OptionalRun = None,
    texts: Texts = None,
    input: InputFile = None,
    output: OutputFile = None,
    text: TextColumns = None,
    id: IdColumn = None,
    top_k: TopK = None,
    strict: Strict = False,
    restart: Restart = False,
    spreadsheet_safe: SpreadsheetSafe = False,
    workers: Workers = None,
    shard: Shard = None,
    part_format: PartFormat = None,
    part_rows: PartRows = None,
    ray: Ray = None,
    ray_actors: RayActors = None,
    status: StatusOf = None,
    join: Join = None,
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
    reporter = terminal(quiet)
    rows = (text, id, top_k, strict, restart, spreadsheet_safe)
    file_flags = FileFlags(output, *rows, workers, shard, part_format, part_rows, ray, ray_actors)
    if status is not None or join is not None:
        _check_alone(status, join, run, input, file_flags)
        print_status(status, as_json) if status is not None else join_folder(str(join), output, reporter)
        return
    chosen = _run_of(run, texts, input)
    options = read_options(flags)
    check_file_flags(input, file_flags, options, as_json)
    model = Chosen(chosen, device, precision, threshold, cost)
    if texts:
        _predict_texts(texts, model.load(), as_json, reporter)
    elif input == "-":
        _predict_stdin(model.load, options.encoding, as_json, reporter)
    else:
        predict_file(model.load, model.described, str(input), options, file_flags, as_json, reporter)


def _run_of(run: Path | None, texts: list[str] | None, input: str | None) -> Path:
    """The run directory, if there is one and either texts or an input.

    Raises:
        SettingsError: says what to give.
    """
    if run is None or bool(texts) == (input is not None):
        what = "give a run directory and either" if run is None else "give either"
        raise SettingsError(f"{what} texts, such as lasttoken predict RUN 'some text', or --input FILE (-: stdin)")
    return run


@dataclass(frozen=True)
class Chosen:
    """The classifier that the flags name."""

    run: Path
    device: str
    precision: str
    threshold: str | None
    cost: str | None

    def load(self) -> Predictor:
        """The classifier, ready to predict in a process that is tuned for it."""
        from lasttoken.classifier.predict import Predictor
        from lasttoken.core.process import tune_cpu

        tune_cpu()
        predictor = Predictor.load(self.run, self.device, self.precision)
        predictor.answer_by(self.threshold, self.cost)
        return predictor

    def described(self) -> Model:
        """The classifier as jobs name it."""
        from lasttoken.bulk.model import Model

        return Model(self.run, self.device, self.precision, self.threshold, self.cost)


def _check_alone(status: str | None, join: str | None, run: Path | None, input: str | None, flags: FileFlags) -> None:
    """Reject what has no effect beside --status and --join.

    Raises:
        SettingsError: names it.
    """
    flag = "--status" if status is not None else "--join"
    others = {"--join": join if flag == "--status" else None, "a run directory": run, "--input": input}
    others |= {f"--{name.replace('_', '-')}": value for name, value in vars(flags).items()}
    allowed = ("--output",) if flag == "--join" else ()
    if used := next((name for name, value in others.items() if value and name not in allowed), None):
        raise SettingsError(f"{flag} computes nothing, and {used} was given; leave it out")


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
