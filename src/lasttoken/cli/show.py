"""What commands print: data on stdout, talk on stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lasttoken.errors import SettingsError
from lasttoken.talk import Talk, TerminalTalk


def terminal(quiet: bool) -> Talk:
    """Talk to the terminal, or to nobody."""
    return Talk() if quiet else TerminalTalk(Console(stderr=True))


def check_output(flag: str, path: Path) -> None:
    """Refuse, before any work, a file that could not be written after it.

    Raises:
        SettingsError: its folder is not there, or it is no file.
    """
    if not path.parent.is_dir():
        raise SettingsError(f"{flag} {path}: there is no folder {path.parent}; make it first")
    if path.exists() and not path.is_file():
        raise SettingsError(f"{flag} {path} is a folder or a device; give a file")


def print_json(content: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(content, ensure_ascii=False, indent=1))


def percent(value: float) -> str:
    """A part as a percentage.

    >>> percent(0.98333)
    '98.33%'
    """
    return f"{value * 100:.2f}%"


def accuracy_cells(metrics: dict[str, Any]) -> list[str]:
    """Accuracy, its interval and macro-F1, as table cells."""
    low, high = metrics["accuracy_ci95"]
    return [
        percent(metrics["accuracy"]),
        f"{percent(low)} to {percent(high)}",
        f"{metrics['macro_f1']:.4f}",
        f"{metrics['n']:,}",
    ]


def print_metrics(metrics: dict[str, Any], out: Path | None, talk: Talk) -> None:
    """The classifier's figures with the baselines' below, for the split that counts and the others."""
    table = Table(box=None, pad_edge=False)
    for column in ("split", "classifier", "accuracy", "95% interval", "macro-F1", "n"):
        table.add_column(column, justify="left" if column in ("split", "classifier") else "right")
    for name, split in metrics["splits"].items():
        table.add_row(name, "GPT", *accuracy_cells(split))
    last = list(metrics["baselines"]["majority"])[-1]
    for name, splits in metrics["baselines"].items():
        if last in splits:
            table.add_row(last, name, *accuracy_cells(splits[last]))
    Console(width=100).print(table)
    if verdict := metrics.get("verdict"):
        print(verdict["sentences"][0])
    for repeats in filter(None, (metrics.get("seeds"), metrics.get("folds"))):
        mean, sd = percent(repeats["mean"]["accuracy"]), percent(repeats["sd"]["accuracy"])
        print(f"over {len(repeats['runs'])} {repeats['kind']}: accuracy {mean} ± {sd} (mean ± standard deviation)")
    if curve := metrics.get("learning_curve"):
        print(curve["sentence"])
    if out:
        talk.say(f"run: {out}")
