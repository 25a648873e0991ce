"""Two processes with one thread each against one process with one thread: the losses, the trunk's time, the tail's.

    python benchmarks/ranks.py [--rows 600] [--repeats 3] [--backbone NAME] [-- FLAGS OF train]

Each run is `lasttoken train` in a process of its own with an empty cache, one after the other and in turn, so that a
machine that slows down slows both. Seconds are those of metrics.json; the medians are compared.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

FLAGS = ("--method", "tail", "--keep", "best", "--ngrams", "none", "--quiet")  # one training, and none in folds
PARTS = ("features", "training", "total")
WORDS = ("see you at the station", "free prize, call now", "bring the keys", "win cash today", "how was the film")


def write_rows(path: Path, n: int) -> None:
    """Two labels, texts of 10 to 120 words; every text is another one."""
    draw = np.random.default_rng(1)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for row in range(n):
            words = " ".join(WORDS[at] for at in draw.integers(0, len(WORDS), int(draw.integers(3, 30))))
            writer.writerow((f"message {row}: {words}", "spam" if "prize" in words and "cash" in words else "ham"))


def train(data: Path, folder: Path, workers: int, flags: list[str]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The seconds of one training, and its history."""
    out = folder / f"run-{workers}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LASTTOKEN_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "lasttoken", "train", str(data), "--out", str(out), "--workers", str(workers)]
    subprocess.run([*command, *FLAGS, *flags], env=environment, check=True, capture_output=True)
    seconds: dict[str, float] = json.loads((out / "metrics.json").read_text("utf-8"))["durations_s"]
    lines = (out / "history.jsonl").read_text("utf-8").splitlines()
    return seconds, [json.loads(line) for line in lines]


def difference(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float:
    """The largest difference of two histories' losses."""
    names = ("train_loss", "validation_loss")
    return max(abs(float(a[name]) - float(b[name])) for a, b in zip(ours, theirs, strict=True) for name in names)


def main() -> None:
    """Train in turn, and print the medians and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--backbone")
    parser.add_argument("flags", nargs="*")
    asked = parser.parse_args()
    flags = [*asked.flags, *(["--backbone", asked.backbone] if asked.backbone else [])]
    seconds: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        write_rows(data := Path(folder) / "rows.csv", asked.rows)
        largest = 0.0
        for repeat in range(asked.repeats):
            histories = {}
            for workers in (1, 2) if repeat % 2 == 0 else (2, 1):
                own = Path(folder) / f"{repeat}-{workers}"
                measured, histories[workers] = train(data, own, workers, flags)
                seconds[workers].append(measured)
                print(repeat, workers, {part: measured[part] for part in PARTS}, flush=True)
            largest = max(largest, difference(histories[1], histories[2]))
    print(f"largest difference of a loss: {largest:.1e}")
    for part in PARTS:
        one, two = (statistics.median(each[part] for each in seconds[workers]) for workers in (1, 2))
        print(f"{part:10} one process {one:7.1f} s   two {two:7.1f} s   ratio {two / one:.2f}")


if __name__ == "__main__":
    main()
