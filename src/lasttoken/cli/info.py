"""The command info: facts about a run or a backbone."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lasttoken.cli.flags import Json, Offline
from lasttoken.cli.show import print_json, print_line, terminal


def info(
    what: Annotated[
        str | None, typer.Argument(help="A run directory, or a backbone; without it: list the backbones.")
    ] = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Show facts about a run or a backbone.

    Of a run its labels, settings and versions; of a backbone its licence, size, shape and tokenizer. Nothing is fetched
    for a name of the list.
    """
    from lasttoken.runs.describe import describe, list_backbones

    if what is None:
        names = list_backbones()
        print_json(names) if as_json else print_line("\n".join(f"{name}\t{text}" for name, text in names.items()))
        return
    facts = describe(what, offline, terminal(quiet=False))
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            print_line(f"{name}:")
            print_line("\n".join(f"  {key}\t{_in_words(item)}" for key, item in value.items()))
        else:
            print_line(f"{name}\t{_in_words(value)}")


def _in_words(value: Any) -> str:
    """A fact as a person writes it.

    >>> _in_words(0.00045000000000000004), _in_words(["ham", "spam"]), _in_words(False), _in_words([])
    ('0.00045', 'ham, spam', 'no', '–')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_in_words, value)) or "–"
    return "–" if value is None else str(value)
