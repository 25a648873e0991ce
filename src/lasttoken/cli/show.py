"""What commands print: data on stdout, status messages on stderr; nothing in it can drive the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO, cast

from rich.table import Table

from lasttoken.core.documents import to_json
from lasttoken.core.errors import SettingsError
from lasttoken.core.progress import Reporter, SafeConsole, TerminalTalk, printable, printable_json
from lasttoken.core.storage import dangling_link

MORE = {
    "subset_accuracy": "subset accuracy",
    "mAP": "mAP",
    "hamming": "Hamming loss",
    "balanced_accuracy": "balanced accuracy",
    "mcc": "MCC",
    "pr_auc": "PR-AUC",
    "ece": "ECE",
    "brier": "Brier",
    "loss": "loss",
}  # figures beside the first ones, by their key


def terminal(quiet: bool) -> Reporter:
    """Talk to the terminal, or to nobody."""
    return Reporter() if quiet else TerminalTalk(SafeConsole(stderr=True))


def check_output(flag: str, path: Path) -> None:
    """Refuse, before any work, a file that could not be written after it.

    Raises:
        SettingsError: its folder is not there, or it is no file.
    """
    if not path.parent.is_dir():
        raise SettingsError(f"{flag} {path}: there is no folder {path.parent}; make it first")
    if path.exists() and not path.is_file():
        raise SettingsError(f"{flag} {path} is a folder or a device; give a file")
    if target := dangling_link(path):
        raise SettingsError(
            f"{flag} {path} is a link to {target}, which is not there; remove the link, or give another file"
        )


def check_free(flag: str, path: Path, overwrite: bool) -> None:
    """Refuse to replace a file without --overwrite.

    Raises:
        SettingsError: it is there.
    """
    if path.exists() and not overwrite:
        raise SettingsError(f"{flag} {path} is there already; pass --overwrite to replace it, or another {flag}")


def print_json(content: Any) -> None:
    """One JSON document on stdout."""
    print(printable_json(to_json(content, indent=1)))


def print_line(line: str, flush: bool = False) -> None:
    """A line on stdout, in which nothing drives the terminal."""
    print(printable(line), flush=flush)


def new_table(*columns: str, left: int = 1, **first: Any) -> Table:
    """A table without lines: the first `left` columns are names, the others figures. `first`: see rich, of column 1."""
    table = Table(box=None, pad_edge=False, header_style="bold cyan")
    for number, column in enumerate(columns):
        options = first if number == 0 else {}
        table.add_column(column, **{"justify": "left" if number < left else "right", **options})
    return table


def print_table(table: Table, width: int = 100) -> None:
    """A table on stdout, as wide on a narrow terminal as in a file."""
    SafeConsole(width=width).print(table)


def rows_to_stdout(as_json: bool) -> TextIO:
    """Where rows of a file are written: stdout as it is, but on a terminal nothing in them drives it."""
    return cast(TextIO, _TerminalRows(as_json)) if sys.stdout.isatty() else sys.stdout


class _TerminalRows:
    """Stdout, as the writers of rows use it."""

    def __init__(self, as_json: bool) -> None:
        self._safe = printable_json if as_json else printable

    def write(self, text: str) -> int:
        return sys.stdout.write(self._safe(text))

    def flush(self) -> None:
        sys.stdout.flush()


def percent(value: float) -> str:
    """A part as a percentage.

    >>> percent(0.98333)
    '98.33%'
    """
    return f"{value * 100:.2f}%"


def bounded(metrics: Mapping[str, Any], key: str) -> str:
    """A figure with its interval: accuracies in per cent, others as numbers.

    >>> bounded({"accuracy": 0.98, "accuracy_ci95": [0.97, 0.99], "mcc": 0.9}, "accuracy"), bounded({"mcc": 0.9}, "mcc")
    ('98.00% (97.00 to 99.00)', '0.900')
    """
    if metrics.get(key) is None:
        return "–"
    scale, digits, sign = (100, 2, "%") if "accuracy" in key else (1, 3, "")
    value = f"{metrics[key] * scale:.{digits}f}{sign}"
    bounds = metrics.get(f"{key}_ci95")
    return value + (f" ({bounds[0] * scale:.{digits}f} to {bounds[1] * scale:.{digits}f})" if bounds else "")


def print_metrics(metrics: dict[str, Any], out: Path | None, reporter: Reporter) -> None:
    """The classifier's figures with the baselines' below, for the split that counts and the others."""
    last = list(metrics["baselines"]["majority"])[-1]
    rows = [(name, "GPT", split) for name, split in metrics["splits"].items()]
    rows += [(last, name, splits[last]) for name, splits in metrics["baselines"].items() if last in splits]
    several = "hamming" in rows[-1][2]
    keys = {"micro_f1": "micro-F1"} if several else {"accuracy": "accuracy"}
    table = new_table("split", "classifier", *keys.values(), "macro-F1", "n", left=2)
    for split, name, found in rows:
        table.add_row(split, name, *(bounded(found, key) for key in (*keys, "macro_f1")), f"{found['n']:,}")
    print_table(table)
    print_more(metrics, last)
    if verdict := metrics.get("verdict"):
        print_line(verdict["sentences"][0])
    for repeats in filter(None, (metrics.get("seeds"), metrics.get("folds"))):
        mean, sd = percent(repeats["mean"]["accuracy"]), percent(repeats["sd"]["accuracy"])
        print_line(f"over {len(repeats['runs'])} {repeats['kind']}: accuracy {mean} ± {sd} (mean ± standard deviation)")
    if curve := metrics.get("learning_curve"):
        print_line(curve["sentence"])
    if out:
        reporter.say(f"run: {out}")


def print_more(metrics: Mapping[str, Any], split: str) -> None:
    """The other figures of the split that counts, beside those of the baseline that the verdict speaks of."""
    ours, verdict = metrics["splits"].get(split), metrics.get("verdict")
    if not ours or not verdict:
        return
    rival = metrics["baselines"][verdict["baseline"]][split]
    table = new_table(*(f"\n{column}" for column in (split, "GPT", verdict["baseline"])))
    for key, name in MORE.items():
        if ours.get(key) is not None:
            table.add_row(name, bounded(ours, key), bounded(rival, key))
    print_table(table)
