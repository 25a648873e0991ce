"""The commands that use classifiers and backbones: predict, evaluate, info, generate, ask."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lasttoken.cli.flags import (
    Cost,
    Device,
    Json,
    LabelColumn,
    Offline,
    Precision,
    Quiet,
    TextColumns,
    TextCommand,
    Threshold,
    column_spec,
    read_options,
    with_settings,
)
from lasttoken.cli.show import MORE, bounded, check_output, percent, print_json, print_line, rows_to_stdout, terminal
from lasttoken.core.columns import SPLIT_COLUMNS, ColumnSpec
from lasttoken.core.documents import to_json
from lasttoken.core.errors import DataError, SettingsError
from lasttoken.core.progress import Reporter, printable_json
from lasttoken.data.formats import output_format, writable_suffixes
from lasttoken.data.json_rows import JSON_LINES

if TYPE_CHECKING:
    from lasttoken.bulk.job import Source
    from lasttoken.classifier.predict import Prediction, Predictor

WINDOW = 4096  # lines of stdin classified and printed at a time
ABSTAINED = "-"  # printed in place of a label where the classifier is not sure enough to answer
RUN = Annotated[Path, typer.Argument(help="A run directory.")]
BACKBONE = Annotated[str, typer.Argument(help="pocket, gpt2, gpt2-medium, gpt2-large, gpt2-xl, a folder or a hub id.")]


def add_commands(app: typer.Typer) -> None:
    """Put this file's commands on the program."""
    for command in (predict, evaluate, info, generate, ask):
        app.command(cls=TextCommand if command in (predict, generate) else None)(command)


@with_settings("predict")
def predict(
    run: RUN,
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to classify.")] = None,
    input: Annotated[
        str | None, typer.Option("--input", help="A file of rows, or - for one text a line on stdin.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", help=f"File to write, with one of the suffixes {writable_suffixes()}; default: stdout."
        ),
    ] = None,
    text: TextColumns = None,
    id: Annotated[str | None, typer.Option("--id", help="Keep only this column beside the predictions.")] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", help="Probabilities to write of a row; default: all of up to 10, else 5.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at a row that cannot be read.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Drop what a killed job has done, and start again.")
    ] = False,
    spreadsheet_safe: Annotated[
        bool,
        typer.Option("--spreadsheet-safe", help="In CSV and TSV, put ' before cells that a spreadsheet would run."),
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threshold: Threshold = None,
    cost: Cost = None,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Classify texts, a file, or stdin: label, score, and with --json all probabilities."""
    if bool(texts) == (input is not None):
        raise SettingsError("give either texts, such as lasttoken predict RUN 'some text', or --input FILE (-: stdin)")
    options = read_options(flags)
    of_files = {"--output": output, "--text": text, "--id": id, "--top-k": top_k, "--strict": strict}
    of_files |= {"--restart": restart, "--spreadsheet-safe": spreadsheet_safe, "--no-header": not options.header}
    of_files |= {"--separator": options.separator, "--format": options.format if options.format != "txt" else None}
    _check_file_flags(input, of_files)
    if top_k is not None and top_k < 1:
        raise SettingsError(f"--top-k is {top_k}; it must be at least 1")
    if as_json and output and output_format(output)[0] is not JSON_LINES:
        raise SettingsError(f"--json writes .jsonl, and --output is {output}; leave one of them out")
    reporter = terminal(quiet)

    def load() -> Predictor:
        from lasttoken.classifier.predict import Predictor
        from lasttoken.core.process import tune_cpu

        tune_cpu()
        predictor = Predictor.load(run, device, precision)
        predictor.answer_by(threshold, cost)
        return predictor

    if texts is not None and texts:
        predictor = load()
        _print_predictions(texts, predictor, as_json, reporter)
    elif input == "-":
        if sys.stdin is None:
            raise SettingsError("--input - reads stdin, which is closed; pipe a text a line into it")
        predictor = load()
        for lines in _stdin_windows(_stdin_lines(options.encoding), 1 if sys.stdin.isatty() else WINDOW):
            _print_predictions(lines, predictor, as_json, reporter)
    else:
        from lasttoken.bulk.job import Source
        from lasttoken.classifier.checkpoint import trained_columns

        columns = ColumnSpec(tuple(text or ()), id=id)
        source = Source(Path(str(input)), columns, options, trained_columns(run), spreadsheet_safe)
        _predict_file(load, source, output, as_json, top_k, strict, restart, reporter)


def _check_file_flags(input: str | None, flags: dict[str, Any]) -> None:
    """Refuse flags that would be ignored, and files that cannot be written."""
    given = next((flag for flag, value in flags.items() if value), None)
    if given and input in (None, "-"):
        hint = ", or read a table from a pipe with --input /dev/stdin" if input == "-" else ""
        raise SettingsError(f"{given} goes with --input FILE only; put the texts in a file, leave {given} out{hint}")
    output = flags["--output"]
    if output is None:
        return
    check_output("--output", output)
    if output.exists() and input is not None and output.samefile(input):
        raise SettingsError(f"--output {output} is the file that --input reads; give another")
    output_format(output)


def _stdin_lines(encoding: str) -> Iterator[str]:
    """The lines on stdin without their ends."""
    from lasttoken.data.lines import codec_name

    lines = io.TextIOWrapper(sys.stdin.buffer, codec_name(encoding), newline="\n")
    try:
        for line in lines:
            yield line.removesuffix("\n").removesuffix("\r")
    except UnicodeError as error:
        raise DataError(
            f"stdin is not {encoding} ({error}); name its encoding with --encoding, such as cp1252"
        ) from error


def _print_predictions(texts: Sequence[str], predictor: Predictor, as_json: bool, reporter: Reporter) -> None:
    for text, found in zip(texts, predictor.predict(texts), strict=True):
        if found.truncated:
            reporter.say(f"a text was cut to {found.n_tokens} tokens")
        if not text.strip():
            reporter.say("a text is empty: its answer says nothing but what the classifier expects of no text")
        if as_json:
            print(printable_json(to_json({"text": text, **vars(found)})), flush=True)
        else:
            probs = ", ".join(
                f"{_escaped(label)} {p:.3f}" for label, p in sorted(found.probs.items(), key=lambda item: -item[1])[:5]
            )
            print_line(
                f"{_escaped(joined(found, predictor)) or ABSTAINED}\t{found.score:.3f}\t{probs}\t{_one_line(text)}",
                flush=True,
            )


def joined(found: Prediction, predictor: Predictor) -> str:
    """The label of a text, or all that it has as the data writes them; "" for none."""
    return (predictor.classifier.config.separator or "").join(found.labels)


def _escaped(label: str) -> str:
    """A label whose tabs and line ends do not break the line it is printed in."""
    return label.replace("\t", "\\t").replace("\r", "\\r").replace("\n", "\\n")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _stdin_windows(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(lines)
    while window := list(islice(iterator, size)):
        yield window


def _predict_file(
    load: Callable[[], Predictor], source: Source, output: Path | None, as_json: bool, top_k: int | None,
    strict: bool, restart: bool, reporter: Reporter,
) -> None:  # fmt: skip
    from lasttoken.bulk.job import n_undecodable, score_file, score_to_stream

    if output is None:
        done = score_to_stream(load, source, rows_to_stdout(as_json), as_json, top_k, reporter)
    else:
        done = score_file(load, source, output, top_k=top_k, strict=strict, restart=restart, reporter=reporter)
    counts = done.counts
    if done.rejects:
        reporter.say(f"{counts.n_rejected:,} rows could not be read; they and the reasons are in {done.rejects}")
        if n_foreign := n_undecodable(done.rejects, source.options.encoding):
            from lasttoken.data.lines import advised_encoding

            advice = advised_encoding(source.path, source.options.encoding)
            named = f": name the file's encoding with --encoding, such as {advice}" if advice else ""
            reporter.say(f"{n_foreign:,} of them hold bytes that are not {source.options.encoding}{named}")
        if not counts.n_rows:
            raise DataError(f"no row of {source.path} could be classified; the reasons are in {done.rejects}")
    if counts.n_empty:
        reporter.say(f"{counts.n_empty:,} rows have no text; they got the answer for an empty one, which says nothing")
    cut = f", {counts.n_cut:,} of them cut to {done.max_length} tokens" if counts.n_cut else ""
    reporter.say(f"{counts.n_rows:,} rows classified{cut}")


@with_settings("evaluate")
def evaluate(
    run: RUN,
    data: Annotated[Path, typer.Argument(help="A labelled file.")],
    text: TextColumns = None,
    label: LabelColumn = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threshold: Threshold = None,
    cost: Cost = None,
    n_batches: Annotated[
        int | None, typer.Option("--batches", help="Measure on the first batches only, as chapter 6's num_batches.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Rows of a batch [default: 8].")] = None,
    shuffle_seed: Annotated[
        int | None,
        typer.Option(
            "--shuffle-seed", help="With --batches: shuffle first, as the chapter's train loader, by this seed."
        ),
    ] = None,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Measure a classifier on a labelled file."""
    from lasttoken.classifier.evaluate import evaluate as measure
    from lasttoken.classifier.predict import Predictor
    from lasttoken.classifier.run_dir import RunDir
    from lasttoken.core.process import tune_cpu
    from lasttoken.data.files import read_examples
    from lasttoken.data.splits import count_shared_texts
    from lasttoken.training.order import first_batches

    _check_batches(n_batches, batch_size, shuffle_seed)
    reporter = terminal(quiet)
    tune_cpu()
    predictor = Predictor.load(run, device, precision)
    predictor.answer_by(threshold, cost)
    config = predictor.classifier.config
    separator = config.separator
    asked = column_spec(text, label)
    examples = read_examples(data, asked, options=read_options(flags), separator=separator, trained=config.columns)
    for note in examples.notes:
        reporter.say(note)
    if n_batches is not None:
        rows = first_batches(len(examples), n_batches, batch_size or 8, shuffle_seed)
        if not rows:
            raise DataError(f"{data} has {len(examples):,} rows, less than a batch of {batch_size}; lower --batch-size")
        examples = examples.take(rows)
    trained_on = RunDir(run).splits / "train.csv"
    if trained_on.is_file():
        trained = read_examples(trained_on, SPLIT_COLUMNS, separator=separator)
        shared = count_shared_texts(trained, examples)
        if shared:
            reporter.say(
                f"{shared:,} of the {len(examples):,} texts are among those it was trained on: the figures flatter"
            )
    with reporter.bar("evaluating", len(examples)) as advance:
        metrics = measure(predictor, examples, reporter.say, lambda n: advance(n, "")).to_json()
    if as_json:
        print_json(metrics)
        return
    print_line(f"accuracy {bounded(metrics, 'accuracy')} on {metrics['n']:,} rows")
    for key, name in {"micro_f1": "micro-F1", "macro_f1": "macro-F1", **MORE}.items():
        if metrics.get(key) is not None and key != "subset_accuracy":
            print_line(f"{name} {bounded(metrics, key)}")
    for name, found in metrics["per_label"].items():
        shares = "\t".join(f"{key} {bounded(found, key)}" for key in ("precision", "recall", "f1"))
        print_line(f"{name}\t{shares}\tn {found['n']}")


def _check_batches(n_batches: int | None, batch_size: int | None, shuffle_seed: int | None) -> None:
    for flag, value in {"--batches": n_batches, "--batch-size": batch_size}.items():
        if value is not None and value < 1:
            raise SettingsError(f"{flag} is {value}; it must be at least 1")
    if n_batches is None and (batch_size is not None or shuffle_seed is not None):
        flag = "--batch-size" if batch_size is not None else "--shuffle-seed"
        raise SettingsError(f"{flag} goes with --batches only; add it, or leave {flag} out")
    if shuffle_seed is not None and not 0 <= shuffle_seed < 2**63:
        raise SettingsError(f"--shuffle-seed is {shuffle_seed}; it must be at least 0")


def info(
    what: Annotated[str, typer.Argument(help="A run directory, or a backbone.")],
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what is in a run or a backbone."""
    from lasttoken.runs.describe import describe

    found = describe(what, offline)
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        if isinstance(value, dict):
            print_line(f"{name}:")
            print_line("\n".join(f"  {key}\t{item}" for key, item in value.items()))
        else:
            print_line(f"{name}\t{value}")


def generate(
    backbone: BACKBONE,
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Tokens to write.")] = 25,
    temperature: Annotated[float, typer.Option("--temperature", help="0: always the likeliest token.")] = 0.0,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Draw from the k likeliest tokens only.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draws.")] = 123,
    stop_at_end: Annotated[bool, typer.Option("--stop-at-end", help="Stop at the end-of-text token.")] = False,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let a backbone continue a text: are these weights really GPT-2?"""
    from lasttoken.backbone.generation import generate as write
    from lasttoken.backbone.pretrained import load_backbone

    loaded = load_backbone(backbone, offline)
    ids = loaded.tokenizer.encode(prompt)
    stop_id = loaded.end_of_text_id if stop_at_end else None
    found = write(
        loaded.decoder,
        ids,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
        stop_id=stop_id,
    )
    text = loaded.tokenizer.decode([*ids, *found.token_ids])
    if found.full:
        terminal(quiet).say(
            f"the context of {loaded.config.n_positions} tokens is full: stopped after "
            f"{len(found.token_ids)} new tokens"
        )
    if as_json:
        print_json({"text": text, "prompt_token_ids": ids, "token_ids": found.token_ids, "context_full": found.full})
    else:
        print_line(text)


@with_settings("ask")
def ask(
    backbone: BACKBONE,
    data: Annotated[Path, typer.Argument(help="A labelled file.")],
    answers: Annotated[str, typer.Option("--answers", help="The answer of each label, such as spam=yes,ham=no.")],
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="The question, with {text} in it [default: the chapter's].")
    ] = None,
    text: TextColumns = None,
    label: LabelColumn = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Ask about the first rows only.")] = None,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Ask the bare backbone, untrained, for each row's label: by what it writes, and by the answers' probabilities."""
    from lasttoken.backbone.pretrained import load_backbone
    from lasttoken.data.files import read_examples
    from lasttoken.runs.zero_shot import PROMPT, parse_answers
    from lasttoken.runs.zero_shot import ask as put_question

    reporter = terminal(quiet)
    pairs = parse_answers(answers)
    examples = read_examples(data, column_spec(text, label), options=read_options(flags))
    for note in examples.notes:
        reporter.say(note)
    if limit is not None:
        if limit < 1:
            raise DataError(f"--limit is {limit}; it must be at least 1")
        examples = examples.take(range(min(limit, len(examples))))
    loaded = load_backbone(backbone, offline)
    with reporter.bar("asking", len(examples)) as advance:
        found = put_question(loaded, examples, pairs, PROMPT if prompt is None else prompt, lambda n: advance(n, ""))
    low, high = found.written_ci95
    n = found.scored.n
    if as_json:
        written = {"n": n, "answered": found.n_answered, "accuracy": found.n_correct / n, "accuracy_ci95": [low, high]}
        print_json({"written": written, "scored": found.scored.to_json()})
        return
    print_line(
        f"written\taccuracy {percent(found.n_correct / n)} ({percent(low)} to {percent(high)}), an answer in "
        f"{found.n_answered:,} of {n:,} texts"
    )
    scored = found.scored.to_json()
    print_line(f"scored\taccuracy {bounded(scored, 'accuracy')}, macro-F1 {bounded(scored, 'macro_f1')}")
