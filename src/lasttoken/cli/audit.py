"""The command audit: problems of labelled data, before training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lasttoken.cli.flags import Json, LabelColumn, Offline, Quiet, TextColumns, column_spec, read_options, with_settings
from lasttoken.cli.outputs import check_output
from lasttoken.cli.show import new_table, print_json, print_line, print_table, terminal
from lasttoken.core.config import Settings, separator_of
from lasttoken.core.default_backbone import BUNDLED, VARIABLE, default_backbone

if TYPE_CHECKING:
    from rich.table import Table

    from lasttoken.audit.audit import Audit

BACKBONE = typer.Option(
    "--backbone",
    help="Backbone that provides the tokenizer, to count tokens.",
    show_default=f"${VARIABLE} or {BUNDLED}",
)
MAX_ROWS = 10  # of each list; --json has all of them, and --html the first thousand
MAX_CHARACTERS = 70  # of a text in a list


@with_settings("audit")
def audit(
    data: Annotated[list[Path], typer.Argument(help="Labelled files, one for each split, or a folder of splits.")],
    text: TextColumns = None,
    label: LabelColumn = None,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="A text may have any number of labels.")] = False,
    label_separator: Annotated[
        str, typer.Option("--label-separator", help="Separator between the labels of a text, with --multi-label.")
    ] = Settings.label_separator,
    backbone: Annotated[str, BACKBONE] = "",
    html: Annotated[Path | None, typer.Option("--html", help="Also write an HTML page to this file.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if there are findings; notes do not count.")
    ] = False,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Check labelled data before training.

    Reports duplicates, leaks between splits, conflicting labels, damaged texts and shortcuts.
    """
    from lasttoken.audit.collecting import audit_splits
    from lasttoken.audit.reading import read_for_audit
    from lasttoken.backbone.pretrained import load_tokenizer
    from lasttoken.core.storage import write_text

    reporter, backbone = terminal(quiet), backbone or default_backbone()
    if html:
        check_output("--html", html)
    tokenizer, max_length = load_tokenizer(backbone, offline, reporter)
    separator = separator_of(multi_label, label_separator)
    splits = read_for_audit(data, column_spec(text, label), options=read_options(flags), separator=separator)
    for note in dict.fromkeys(note for examples in splits.values() for note in examples.notes):
        reporter.say(note)
    report = audit_splits(splits, tokenizer=tokenizer, max_length=max_length)
    if html:
        from lasttoken.report.audit_page import render_audit

        write_text(html, render_audit(report, data[0].name if len(data) == 1 else ", ".join(splits)))
        reporter.say(f"page: {html}")
    if as_json:
        print_json({"backbone": backbone, **report.to_json()})
    else:
        print_audit(report, max_length)
    if strict and report.findings():
        raise typer.Exit(1)


def print_audit(report: Audit, max_length: int) -> None:
    """The tables, then sentences, then the first rows of each list, on stdout."""
    print_table(_split_table(report, max_length), width=110)
    print_table(_label_table(report), width=110)
    _print_list("findings: metrics measured on these splits may be wrong", report.findings())
    _print_list("notes", report.notes())
    if not report.sentences():
        print_line("\nno problems were found")
    for title, rows in report.lists().items():
        _print_list(title, ("   ".join(map(_short, row.cells)) for row in rows), MAX_ROWS)


def _split_table(report: Audit, max_length: int) -> Table:
    """A row for each split: its size, its repeats and the lengths of its texts."""
    table = new_table()
    titles = ("split", "rows", "labels", "repeats", "case/digits", "near-duplicates", "tokens: median", "95%", "most")
    for title in (*titles, f"over {max_length:,}", "scripts"):
        table.add_column(title, justify="left" if title in ("split", "scripts") else "right", overflow="fold")
    for name, split in report.splits.items():
        lengths = split.tokens or split.characters
        n_cut = split.cut.n_texts if split.cut else 0
        counts = (
            split.n,
            len(split.labels),
            *split.repeats.values(),
            lengths.p50,
            lengths.p95,
            lengths.longest,
            n_cut,
        )
        scripts = ", ".join(f"{script} {share:.1%}" for script, share in list(split.scripts.items())[:3])
        table.add_row(_short(name), *(f"{n:,}" for n in counts), scripts)
    return table


def _label_table(report: Audit) -> Table:
    """A row for each label: its rows in each split."""
    from lasttoken.data.labels import natural_order

    table = new_table("\nlabel", *(f"\n{_short(name)}" for name in report.splits), overflow="fold")
    labels = natural_order(label for split in report.splits.values() for label in split.labels)
    for label in labels[: 2 * MAX_ROWS]:
        cells = (_share(split.labels.get(label, 0), split.n) for split in report.splits.values())
        table.add_row(_short(label), *cells)
    if len(labels) > 2 * MAX_ROWS:
        table.add_row(f"and {len(labels) - 2 * MAX_ROWS:,} more")
    return table


def _share(n: int, total: int) -> str:
    return f"{n:,} ({n / total:.1%})" if total else "0"


def _short(text: str) -> str:
    """A text on one line, cut to `MAX_CHARACTERS`."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 1] + "…"


def _print_list(title: str, lines: Iterable[str], limit: int | None = None) -> None:
    """Print a title and the first lines; nothing if there are no lines."""
    content = list(lines)
    if not content:
        return
    print_line(f"\n{title}")
    for line in content[:limit]:
        print_line(f"  {line}")
    if limit and len(content) > limit:
        print_line(f"  and {len(content) - limit:,} more (--json has them all)")
