"""What commands print: data on stdout, talk on stderr."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lasttoken.documents import to_json
from lasttoken.errors import SettingsError
from lasttoken.talk import Talk, TerminalTalk

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
    print(to_json(content, indent=1))


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


def print_metrics(metrics: dict[str, Any], out: Path | None, talk: Talk) -> None:
    """The classifier's figures with the baselines' below, for the split that counts and the others."""
    last = list(metrics["baselines"]["majority"])[-1]
    rows = [(name, "GPT", split) for name, split in metrics["splits"].items()]
    rows += [(last, name, splits[last]) for name, splits in metrics["baselines"].items() if last in splits]
    several = "hamming" in rows[-1][2]
    keys = {"micro_f1": "micro-F1"} if several else {"accuracy": "accuracy"}
    table = Table(box=None, pad_edge=False)
    for column in ("split", "classifier", *keys.values(), "macro-F1", "n"):
        table.add_column(column, justify="left" if column in ("split", "classifier") else "right")
    for split, name, found in rows:
        table.add_row(split, name, *(bounded(found, key) for key in (*keys, "macro_f1")), f"{found['n']:,}")
    console = Console(width=100)
    console.print(table)
    print_more(metrics, last, console)
    if verdict := metrics.get("verdict"):
        print(verdict["sentences"][0])
    for repeats in filter(None, (metrics.get("seeds"), metrics.get("folds"))):
        mean, sd = percent(repeats["mean"]["accuracy"]), percent(repeats["sd"]["accuracy"])
        print(f"over {len(repeats['runs'])} {repeats['kind']}: accuracy {mean} ± {sd} (mean ± standard deviation)")
    if curve := metrics.get("learning_curve"):
        print(curve["sentence"])
    if out:
        talk.say(f"run: {out}")


def print_more(metrics: Mapping[str, Any], split: str, console: Console) -> None:
    """The other figures of the split that counts, beside those of the baseline that the verdict speaks of."""
    ours, verdict = metrics["splits"].get(split), metrics.get("verdict")
    if not ours or not verdict:
        return
    rival = metrics["baselines"][verdict["baseline"]][split]
    table = Table(box=None, pad_edge=False)
    for column in (split, "GPT", verdict["baseline"]):
        table.add_column(f"\n{column}", justify="left" if column == split else "right")
    for key, name in MORE.items():
        if ours.get(key) is not None:
            table.add_row(name, bounded(ours, key), bounded(rival, key))
    console.print(table)
