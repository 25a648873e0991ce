"""What commands print: results on stdout, status messages on stderr, control characters escaped."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO, cast

from rich.table import Table

from lasttoken.core.documents import to_json
from lasttoken.core.metric_registry import METRICS, headline_of, metrics_at
from lasttoken.core.progress import Reporter, SafeConsole, TerminalReporter, printable, printable_json


def terminal(quiet: bool) -> Reporter:
    """A reporter that prints to stderr; with `quiet` one that prints nothing."""
    return Reporter() if quiet else TerminalReporter(SafeConsole(stderr=True))


def print_json(content: Any) -> None:
    """One JSON document on stdout."""
    print(printable_json(to_json(content, indent=1)))


def print_line(line: str, flush: bool = False) -> None:
    """A line on stdout; control characters are escaped."""
    print(printable(line), flush=flush)


def new_table(*columns: str, left: int = 1, **first: Any) -> Table:
    """A table without rules: the first `left` columns are left-aligned, the others right-aligned.

    `first`: options of the first column, see rich.
    """
    table = Table(box=None, pad_edge=False, header_style="bold cyan")
    for number, column in enumerate(columns):
        options = first if number == 0 else {}
        table.add_column(column, **{"justify": "left" if number < left else "right", **options})
    return table


def print_table(table: Table, width: int = 100) -> None:
    """A table on stdout, of the same width on every terminal and in a file."""
    SafeConsole(width=width).print(table)


def rows_to_stdout(as_json: bool) -> TextIO:
    """The stream for rows of a file: stdout, with control characters escaped if it is a terminal."""
    return cast(TextIO, _TerminalRows(as_json)) if sys.stdout.isatty() else sys.stdout


class _TerminalRows:
    """Stdout with control characters escaped, as far as the writers of rows need a stream."""

    def __init__(self, as_json: bool) -> None:
        self._safe = printable_json if as_json else printable

    def write(self, text: str) -> int:
        return sys.stdout.write(self._safe(text))

    def flush(self) -> None:
        sys.stdout.flush()


def percent(value: float) -> str:
    """A fraction as a percentage.

    >>> percent(0.98333)
    '98.33%'
    """
    return f"{value * 100:.2f}%"


def print_metrics(metrics: dict[str, Any], out: Path | None, reporter: Reporter) -> None:
    """The classifier's metrics on all splits, and the baselines' on the last one (test, if there is one)."""
    last = list(metrics["baselines"]["majority"])[-1]
    rows = [(name, _ours(metrics), split) for name, split in metrics["splits"].items()]
    rows += [(last, name, splits[last]) for name, splits in metrics["baselines"].items() if last in splits]
    shown = [METRICS[headline_of(rows[-1][2])], *metrics_at("table")]
    table = new_table("split", "classifier", *(metric.title for metric in shown), "n", left=2)
    for split, name, values in rows:
        table.add_row(split, name, *(metric.formatted(values) for metric in shown), f"{values['n']:,}")
    print_table(table)
    print_more(metrics, last)
    if verdict := metrics.get("verdict"):
        print_line(verdict["sentences"][0])
    for repeats in filter(None, (metrics.get("seeds"), metrics.get("folds"))):
        metric = METRICS[headline_of(repeats["mean"])]
        mean, sd = (metric.formatted({metric.name: repeats[of][metric.name]}) for of in ("mean", "sd"))
        runs = f"over {len(repeats['runs'])} {repeats['kind']}"
        print_line(f"{runs}: {metric.title} {mean} ± {sd} (mean ± standard deviation)")
    if curve := metrics.get("learning_curve"):
        print_line(curve["sentence"])
    if out:
        reporter.say(f"run: {out}")


def _ours(metrics: Mapping[str, Any]) -> str:
    """The classifier in a table."""
    return "GPT + n-grams" if (metrics.get("ngrams") or {}).get("kept") else "GPT"


def print_more(metrics: Mapping[str, Any], split: str) -> None:
    """The other metrics on one split, beside those of the baseline that the verdict compares with."""
    ours, verdict = metrics["splits"].get(split), metrics.get("verdict")
    if not ours or not verdict:
        return
    rival = metrics["baselines"][verdict["baseline"]][split]
    table = new_table(*(f"\n{column}" for column in (split, _ours(metrics), verdict["baseline"])))
    for metric in metrics_at("details"):
        if ours.get(metric.name) is not None:
            table.add_row(metric.title, metric.formatted(ours), metric.formatted(rival))
    print_table(table)
