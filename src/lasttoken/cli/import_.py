"""The command import: a run from weights that were saved in the book's chapter 6, or from a LoRA of peft."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lasttoken.cli.flags import Offline, Quiet
from lasttoken.cli.show import print_line, terminal
from lasttoken.core.errors import SettingsError

LABELS_HELP = "Names of the head's outputs, in order. [default: ham,spam; for a LoRA those in its config.json]"
MAX_LENGTH_HELP = (
    "Tokens to which every text was padded: the length of the longest train text; for a LoRA the tokens to which "
    "longer texts are cut. [default: 120; for a LoRA what its tokenizer says]"
)
TOKENIZER = "gpt2"  # of the book's weights
Source = Annotated[
    Path,
    typer.Argument(
        help="File that torch.save(model.state_dict(), …) wrote in chapter 6, or folder that peft's save_pretrained "
        "wrote for a LoRA of sequence classification."
    ),
]
Base = Annotated[
    str | None, typer.Option("--base", help="Backbone that a LoRA was trained on: a name, a folder or a hub id.")
]
Heads = Annotated[
    int | None, typer.Option("--heads", help="Number of attention heads; required for widths that GPT-2 lacks.")
]
TokenizerSource = Annotated[
    str,
    typer.Option("--tokenizer", help="Backbone that provides the tokenizer, or a folder like the book's gpt2/124M."),
]


def import_(
    file: Source,
    out: Annotated[Path, typer.Option("--out", help="Run directory to create.")],
    base: Base = None,
    labels: Annotated[str | None, typer.Option("--labels", help=LABELS_HELP)] = None,
    max_length: Annotated[int | None, typer.Option("--max-length", help=MAX_LENGTH_HELP)] = None,
    heads: Heads = None,
    tokenizer: TokenizerSource = TOKENIZER,
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Create a run from weights of the book's chapter 6, or from a LoRA of peft."""
    if max_length is not None and max_length < 1:
        raise SettingsError(f"--max-length is {max_length}; it must be at least 1")
    if file.is_dir() != (base is not None):
        raise SettingsError(
            f"{file} is a folder; give --base, the backbone that its LoRA was trained on"
            if base is None
            else f"--base is for a folder of peft, and {file} is not a folder; leave it out"
        )
    if base is not None:
        for flag, given in (("--heads", heads), ("--tokenizer", None if tokenizer == TOKENIZER else tokenizer)):
            if given is not None:
                raise SettingsError(f"{flag} is {given}, and --base names the backbone of a LoRA; leave {flag} out")
    names = None if labels is None else [name.strip() for name in labels.split(",")]
    reporter = terminal(quiet)
    if base is not None:
        from lasttoken.export.adapter_import import import_adapter

        import_adapter(file, out, base, names, max_length=max_length, offline=offline, reporter=reporter)
    else:
        from lasttoken.export.book import import_book

        names, length = names or ["ham", "spam"], max_length or 120
        import_book(
            file, out, names, max_length=length, n_head=heads, tokenizer=tokenizer, offline=offline, reporter=reporter
        )
    reporter.say("the run has no metrics; measure them with lasttoken evaluate")
    print_line(str(out))
