"""Run directories in tests: a quick training, and what it leaves.

train(data, backbone, out)   one epoch of the miniature, by the command line
unfinished(…)                a run whose process was killed after the training
read_metrics, settings_of, rows_of, files_below   what a run directory holds
"""

from __future__ import annotations

import csv
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from miniature import Answer, run_cli

from lasttoken.core.errors import StorageError

RUN_FILES = {
    "run.toml",
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "metrics.json",
    "history.jsonl",
    "curves/loss.pdf",
    "curves/loss.svg",
    "curves/accuracy.pdf",
    "curves/accuracy.svg",
    "splits/train.csv",
    "splits/validation.csv",
    "splits/test.csv",
    "report.html",
    "README.md",
    "predictions/validation.csv",
    "predictions/test.csv",
    *(f"curves/{name}.{suffix}" for name in ("reliability", "precision-recall") for suffix in ("pdf", "svg")),
}


def train(data: Path | None, backbone: Path, out: Path, *flags: object) -> Answer:
    """Train one epoch of the miniature, and expect it to work."""
    source = [] if data is None else [data]
    answer = run_cli("train", *source, "--backbone", backbone, "--out", out, "--epochs", 1, *flags)
    assert answer.code == 0, answer.err
    return answer


def read_metrics(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "metrics.json").read_text("utf-8"))
    return content


def settings_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((run / "run.toml").read_text("utf-8"))["settings"]
    return content


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def unfinished(data: Path, backbone: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was killed in its training."""

    def killed(*_: object) -> None:
        raise StorageError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("lasttoken.runs.write.save_classifier", killed)
        answer = run_cli(
            "train", data, "--backbone", backbone, "--out", out, "--epochs", 1, "--checkpoint-every", 0, "--offline"
        )
    assert answer.code == 1
    assert (out / "resume.safetensors").is_file()


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
