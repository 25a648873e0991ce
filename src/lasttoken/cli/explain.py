"""The command explain: which words of a text changed a prediction."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lasttoken.cli.flags import Device, Json, Precision, Quiet, RunDirectory
from lasttoken.cli.outputs import check_output
from lasttoken.cli.show import new_table, print_json, terminal
from lasttoken.core.progress import SafeConsole, printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from lasttoken.classifier.explain import Explanation

N_STRONGEST = 10  # words in the table
# Styles of words for and against the label: above half of the strongest word's value, and below it.
STRONG = ("bold white on rgb(30,80,170)", "bold white on rgb(170,85,10)")
WEAK = ("blue", "yellow")


def explain(
    run: RunDirectory,
    text: Annotated[str, typer.Argument(help="The text.")],
    label: Annotated[
        str | None, typer.Option("--label", help="The label to explain; default: the predicted label.")
    ] = None,
    method: Annotated[
        Literal["integrated-gradients", "occlusion"] | None,
        typer.Option("--method", help="Default: integrated-gradients, or occlusion if the trunk computes in 8 bits."),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write the coloured text to this file.")] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show which words of a text changed the prediction."""
    from lasttoken.classifier.explain import explain as explain_text
    from lasttoken.classifier.predict import Predictor
    from lasttoken.core.process import tune_cpu
    from lasttoken.core.storage import write_text
    from lasttoken.report.words import as_page

    reporter = terminal(quiet)
    if html:
        check_output("--html", html)
    tune_cpu()
    explanation = explain_text(
        Predictor.load(run, device, precision), text, label=label, method=method, say=reporter.say
    )
    if html:
        write_text(html, as_page(explanation))
        reporter.say(f"page: {html}")
    if not all(word.read for word in explanation.words):
        reporter.say("the text was truncated; the truncated words have a score of 0")
    if as_json:
        print_json(asdict(explanation))
    else:
        _print(explanation)


def _print(explanation: Explanation) -> None:
    """The coloured text, the strongest words, and how well their values add up, on stdout."""
    from lasttoken.classifier.explain import GRADIENTS

    console = SafeConsole()
    console.print(as_terminal(explanation))
    console.print()
    console.print(strongest_words(explanation))
    total = sum(word.value for word in explanation.words)
    is_integral = explanation.method == GRADIENTS
    console.print(
        f"\n{explanation.label} {explanation.score:.3f}; method {explanation.method}, {explanation.steps} "
        f"{'steps' if is_integral else 'variants'}; log-odds {explanation.total:+.2f} ({explanation.base:+.2f} for "
        f"{'the baseline' if is_integral else 'an empty text'}); the words' scores sum to {total:+.2f} "
        f"({'error' if is_integral else 'difference'} {explanation.gap:.2g})",
        soft_wrap=True,
    )


def as_terminal(explanation: Explanation) -> Text:
    """The text in colours: strong words have a background; words against the label are underlined."""
    from rich.text import Text

    strongest = max((abs(word.value) for word in explanation.words), default=0.0)
    text = Text()
    for word in explanation.words:
        letters = word.text.rstrip()
        text.append(printable(letters), _style(word.value, strongest) if word.read else "dim")
        text.append(printable(word.text[len(letters) :]))
    return text


def _style(value: float, strongest: float) -> str:
    share = abs(value) / strongest if strongest else 0.0
    if share < 0.1:
        return ""
    is_against = value < 0
    return (STRONG if share > 0.5 else WEAK)[is_against] + (" underline" if is_against else "")


def strongest_words(explanation: Explanation) -> Table:
    """The strongest words with their values in nats, which colours cannot show."""
    from rich.text import Text

    table = new_table("word", "nats")
    ranked = sorted(explanation.words, key=lambda word: -abs(word.value))
    for word in ranked[:N_STRONGEST]:
        table.add_row(Text(printable(" ".join(word.text.split()))), Text(f"{word.value:+.2f}"))
    return table
