"""The command ask: an untrained backbone as a zero-shot classifier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lasttoken.cli.flags import (
    BackboneName,
    Json,
    LabelColumn,
    Offline,
    Quiet,
    TextColumns,
    column_spec,
    read_options,
    with_settings,
)
from lasttoken.cli.show import percent, print_json, print_line, terminal
from lasttoken.core.errors import SettingsError
from lasttoken.core.metric_registry import METRICS

if TYPE_CHECKING:
    from lasttoken.runs.zero_shot import ZeroShotAnswers


@with_settings("ask")
def ask(
    backbone: BackboneName,
    data: Annotated[Path, typer.Argument(help="A labelled file.")],
    answers: Annotated[str, typer.Option("--answers", help="The answer for each label, such as spam=yes,ham=no.")],
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="The question, with {text} in it [default: the chapter's].")
    ] = None,
    text: TextColumns = None,
    label: LabelColumn = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Ask about this many rows only, from the start of the file.")
    ] = None,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Classify a file with an untrained backbone (zero-shot).

    The backbone is asked for the label of each row, and judged by the text that it generates and by the probabilities
    of the answers.
    """
    from lasttoken.backbone.pretrained import check_writes, load_backbone
    from lasttoken.data.files import read_examples
    from lasttoken.runs.zero_shot import PROMPT, parse_answers
    from lasttoken.runs.zero_shot import ask as ask_backbone

    reporter = terminal(quiet)
    answer_of_label = parse_answers(answers)
    check_writes(backbone, offline, reporter)
    examples = read_examples(data, column_spec(text, label), options=read_options(flags))
    for note in examples.notes:
        reporter.say(note)
    if limit is not None:
        if limit < 1:
            raise SettingsError(f"--limit is {limit}; it must be at least 1")
        examples = examples.take(range(min(limit, len(examples))))
    loaded = load_backbone(backbone, offline, reporter=reporter)
    with reporter.bar("asking", len(examples)) as advance:
        replies = ask_backbone(
            loaded, examples, answer_of_label, PROMPT if prompt is None else prompt, lambda n: advance(n, "")
        )
    _print_replies(replies, as_json)


def _print_replies(replies: ZeroShotAnswers, as_json: bool) -> None:
    """Print the metrics of the generated text and of the answers' probabilities."""
    low, high = replies.written_ci95
    n, accuracy = replies.scored.n, replies.n_correct / replies.scored.n
    scored = replies.scored.to_json()
    if as_json:
        written = {"n": n, "answered": replies.n_answered, "accuracy": accuracy, "accuracy_ci95": [low, high]}
        print_json({"written": written, "scored": scored})
        return
    print_line(
        f"written\taccuracy {percent(accuracy)} ({percent(low)} to {percent(high)}), an answer in "
        f"{replies.n_answered:,} of {n:,} texts"
    )
    cells = (f"{METRICS[name].title} {METRICS[name].formatted(scored)}" for name in ("accuracy", "macro_f1"))
    print_line("scored\t" + ", ".join(cells))
