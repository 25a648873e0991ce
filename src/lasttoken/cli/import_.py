"""The command import: a run from weights that were saved in the book's chapter 6."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lasttoken.cli.flags import Offline, Quiet
from lasttoken.cli.show import print_line, terminal
from lasttoken.core.errors import SettingsError


def import_(
    file: Annotated[Path, typer.Argument(help="File that torch.save(model.state_dict(), …) wrote in chapter 6.")],
    out: Annotated[Path, typer.Option("--out", help="Run directory to create.")],
    labels: Annotated[str, typer.Option("--labels", help="Names of the head's outputs, in order.")] = "ham,spam",
    max_length: Annotated[
        int,
        typer.Option(
            "--max-length", help="Tokens to which every text was padded: the length of the longest train text."
        ),
    ] = 120,
    heads: Annotated[
        int | None, typer.Option("--heads", help="Number of attention heads; required for widths that GPT-2 lacks.")
    ] = None,
    tokenizer: Annotated[
        str,
        typer.Option(
            "--tokenizer", help="Backbone that provides the tokenizer, or a folder like the book's gpt2/124M."
        ),
    ] = "gpt2",
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Create a run from weights of the book's chapter 6."""
    from lasttoken.export.book import import_book

    if max_length < 1:
        raise SettingsError(f"--max-length is {max_length}; it must be at least 1")
    names = [name.strip() for name in labels.split(",")]
    reporter = terminal(quiet)
    import_book(
        file, out, names, max_length=max_length, n_head=heads, tokenizer=tokenizer, offline=offline, reporter=reporter
    )
    reporter.say("the run has no metrics; measure them with lasttoken evaluate")
    print_line(str(out))
