"""The command audit: look before you train."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lasttoken.cli.flags import Json, LabelColumn, Offline, Quiet, TextColumns, column_spec, read_options, with_settings
from lasttoken.cli.show import check_output, new_table, print_json, print_line, print_table, terminal

if TYPE_CHECKING:
    from rich.table import Table

    from lasttoken.audit.audit import Audit

MOST_SHOWN = 10  # rows of each list; all are in --json and the first thousand in --html
MOST_CHARACTERS = 70  # of a text in a list


def add_commands(app: typer.Typer) -> None:
    """Put this file's command on the program."""
    app.command()(audit)


@with_settings("audit")
def audit(
    data: Annotated[list[Path], typer.Argument(help="Labelled files, one for each split, or a folder of splits.")],
    text: TextColumns = None,
    label: LabelColumn = None,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="A text may have any number of labels.")] = False,
    label_separator: Annotated[str, typer.Option("--label-separator", help="What parts them.")] = "|",
    backbone: Annotated[str, typer.Option("--backbone", help="Whose tokens to count.")] = "pocket",
    html: Annotated[Path | None, typer.Option("--html", help="Write a page for people there.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when there are findings, not mere notes.")] = False,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Look at labelled data before training: duplicates, leaks, conflicting labels, damage, shortcuts."""
    from lasttoken.audit.collecting import audit_splits
    from lasttoken.audit.reading import read_for_audit
    from lasttoken.backbone.pretrained import load_tokenizer
    from lasttoken.core.storage import write_text

    reporter = terminal(quiet)
    if html:
        check_output("--html", html)
    tokenizer, max_length = load_tokenizer(backbone, offline)
    separator = label_separator if multi_label else None
    splits = read_for_audit(data, column_spec(text, label), options=read_options(flags), separator=separator)
    for note in dict.fromkeys(note for examples in splits.values() for note in examples.notes):
        reporter.say(note)
    found = audit_splits(splits, tokenizer=tokenizer, max_length=max_length)
    if html:
        from lasttoken.report.audit_page import render_audit

        write_text(html, render_audit(found, data[0].name if len(data) == 1 else ", ".join(splits)))
        reporter.say(f"page: {html}")
    if as_json:
        print_json({"backbone": backbone, **found.to_json()})
    else:
        print_audit(found, max_length)
    if strict and found.findings():
        raise typer.Exit(1)


def print_audit(found: Audit, max_length: int) -> None:
    """The tables, then sentences, then the first rows of each list, on stdout."""
    print_table(_split_table(found, max_length), width=110)
    print_table(_label_table(found), width=110)
    _print_list("findings: figures measured on these splits may be wrong", found.findings())
    _print_list("notes", found.notes())
    if not found.sentences():
        print_line("\nnothing was found")
    for title, rows in found.lists().items():
        _print_list(title, ("   ".join(map(_short, row.cells)) for row in rows), MOST_SHOWN)


def _split_table(found: Audit, max_length: int) -> Table:
    table = new_table()
    heads = ("split", "rows", "labels", "repeats", "+ case…", "+ nearly", "tokens: median", "95%", "most")
    for head in (*heads, f"over {max_length:,}", "scripts"):
        table.add_column(head, justify="left" if head in ("split", "scripts") else "right", overflow="fold")
    for name, split in found.splits.items():
        tokens = split.tokens or split.characters
        cut = split.cut.n_texts if split.cut else 0
        counts = (split.n, len(split.labels), *split.repeats.values(), tokens.p50, tokens.p95, tokens.longest, cut)
        scripts = ", ".join(f"{script} {share:.1%}" for script, share in list(split.scripts.items())[:3])
        table.add_row(_short(name), *(f"{n:,}" for n in counts), scripts)
    return table


def _label_table(found: Audit) -> Table:
    from lasttoken.data.labels import natural_order

    table = new_table("\nlabel", *(f"\n{_short(name)}" for name in found.splits), overflow="fold")
    labels = natural_order(label for split in found.splits.values() for label in split.labels)
    for label in labels[: 2 * MOST_SHOWN]:
        table.add_row(_short(label), *(_share(split.labels.get(label, 0), split.n) for split in found.splits.values()))
    if len(labels) > 2 * MOST_SHOWN:
        table.add_row(f"and {len(labels) - 2 * MOST_SHOWN:,} more")
    return table


def _share(n: int, total: int) -> str:
    return f"{n:,} ({n / total:.1%})" if total else "0"


def _short(text: str) -> str:
    """One line of a text, no longer than a line should be."""
    line = " ".join(text.split())
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 1] + "…"


def _print_list(title: str, lines: Iterable[str], most: int | None = None) -> None:
    found = list(lines)
    if not found:
        return
    print_line(f"\n{title}")
    for line in found[:most]:
        print_line(f"  {line}")
    if most and len(found) > most:
        print_line(f"  and {len(found) - most:,} more (--json has them all)")
