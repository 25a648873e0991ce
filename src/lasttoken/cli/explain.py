"""The command explain: which words moved a decision."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lasttoken.cli.flags import Device, Json, Precision, Quiet, TextCommand
from lasttoken.cli.show import check_output, new_table, print_json, terminal
from lasttoken.core.progress import SafeConsole, printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from lasttoken.classifier.explain import Explanation

N_STRONGEST = 10  # words in the table
LEVELS = {1: ("bold white on rgb(30,80,170)", "bold white on rgb(170,85,10)"), 2: ("blue", "yellow")}


def add_commands(app: typer.Typer) -> None:
    """Put this file's command on the program."""
    app.command(cls=TextCommand)(explain)


def explain(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    text: Annotated[str, typer.Argument(help="The text.")],
    label: Annotated[str | None, typer.Option("--label", help="The label to explain; default: the predicted.")] = None,
    method: Annotated[
        Literal["integrated-gradients", "occlusion"] | None,
        typer.Option(
            "--method", help="Default: integrated-gradients, or occlusion where the trunk computes in 8 bits."
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write the coloured text to this file.")] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show which words of a text moved the decision, and by how much."""
    from lasttoken.classifier import explain as explaining
    from lasttoken.classifier.predict import Predictor
    from lasttoken.core.process import tune_cpu
    from lasttoken.core.storage import write_text
    from lasttoken.report.words import as_page

    reporter = terminal(quiet)
    if html:
        check_output("--html", html)
    tune_cpu()
    found = explaining.explain(
        Predictor.load(run, device, precision), text, label=label, method=method, say=reporter.say
    )
    if html:
        write_text(html, as_page(found))
        reporter.say(f"written: {html}")
    if not all(word.read for word in found.words):
        reporter.say("the text was cut: words that were not read have the value 0")
    if as_json:
        print_json(asdict(found))
        return
    console = SafeConsole()
    console.print(as_terminal(found))
    console.print()
    console.print(strongest_words(found))
    console.print(
        f"\n{found.label} {found.score:.3f}; by {found.method} ({found.steps} points): log-odds {found.total:+.2f}, "
        f"{found.base:+.2f} without the text; the words add up to {sum(word.value for word in found.words):+.2f}, "
        f"a gap of {found.gap:.2g}",
        soft_wrap=True,
    )


def as_terminal(explanation: Explanation) -> Text:
    """The text, coloured: strong words on a ground, weaker ones in colour, both underlined where against the label."""
    from rich.text import Text

    strongest = max((abs(word.value) for word in explanation.words), default=0.0)
    text = Text()
    for word in explanation.words:
        shown = word.text.rstrip()
        text.append(printable(shown), _style(word.value, strongest) if word.read else "dim")
        text.append(printable(word.text[len(shown) :]))
    return text


def _style(value: float, strongest: float) -> str:
    share = abs(value) / strongest if strongest else 0.0
    if share < 0.1:
        return ""
    return LEVELS[1 if share > 0.5 else 2][value < 0] + (" underline" if value < 0 else "")


def strongest_words(explanation: Explanation) -> Table:
    """The strongest words with their values, which colours cannot show."""
    from rich.text import Text

    table = new_table("word", "nats")
    ranked = sorted(explanation.words, key=lambda word: -abs(word.value))
    for word in ranked[:N_STRONGEST]:
        table.add_row(Text(printable(" ".join(word.text.split()))), Text(f"{word.value:+.2f}"))
    return table
