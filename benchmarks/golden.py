"""Three small trainings, printed as checksums: run it before and after a change that must not change a result.

    python benchmarks/golden.py

A tail by the recipe, the book's, and a run with several labels a text, all of the bundled messages with the GPT of the
tests (tests/fixtures/pocket). For each: sha256 of model.safetensors, of metrics.json without times, versions and
prose, and of the predictions of the test split. One thread, so that sums have one order; compare lines from one
machine only.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and torch start: the order of a sum depends on the number of threads

import csv
import hashlib
import json
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from lasttoken import TextClassifier

POCKET = str(Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "pocket")
MESSAGES = Path(str(files("lasttoken") / "demo" / "messages.csv"))
TIMES = {
    "durations_s",
    "seconds",
    "timings",
    "versions",
    "speed",
    "created",
    "times_faster",
}  # of metrics.json: what differs from run to run


def main() -> None:
    """Train the three, print their checksums."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        several = Path(folder) / "several.csv"
        write_several(several)
        runs: dict[str, tuple[Path, dict[str, Any]]] = {
            "demo": (MESSAGES, {"backbone": POCKET, "method": "tail"}),
            "book": (MESSAGES, {"backbone": POCKET, "recipe": "book"}),
            "multi-label": (several, {"backbone": POCKET, "multi_label": True, "epochs": 3}),
        }
        for name, (data, settings) in runs.items():
            out = Path(folder) / name
            TextClassifier.train(str(data), out=str(out), **settings)
            metrics = without_times(json.loads((out / "metrics.json").read_text("utf-8")))
            print(f"{name:12} weights {digest((out / 'model.safetensors').read_bytes())}", end=" ")
            print(f"metrics {digest(json.dumps(metrics, sort_keys=True).encode())}", end=" ")
            print(f"predictions {digest((out / 'predictions' / 'test.csv').read_bytes())}")


def write_several(path: Path) -> None:
    """The bundled messages with any number of the labels spam, money, question and long."""
    with MESSAGES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in rows:
            text = row["text"]
            marks = {
                "spam": row["label"] == "spam",
                "money": any(sign in text for sign in "£$€"),
                "question": "?" in text,
                "long": len(text) > 100,
            }
            writer.writerow([text, "|".join(name for name, is_so in marks.items() if is_so)])


def without_times(value: Any) -> Any:
    """`value` without the entries that differ between two runs of the same bits."""
    if isinstance(value, dict):
        return {
            name: without_times(inner)
            for name, inner in value.items()
            if name not in TIMES and not name.endswith(("_s", "_per_s"))
        }
    if isinstance(value, list):
        return [without_times(inner) for inner in value]
    return "" if isinstance(value, str) and " " in value else value  # a sentence may be worded anew


def digest(data: bytes) -> str:
    """The first 16 hexadecimal digits of the sha256."""
    return hashlib.sha256(data).hexdigest()[:16]


if __name__ == "__main__":
    main()
