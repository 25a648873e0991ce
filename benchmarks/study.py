"""A study against its rows one by one: how much time is saved by sharing backbones, prefixes and evaluations.

    python benchmarks/study.py --data SMSSpamCollection --texts 1494 --seeds 1 --rows 1,2,3,4,5,10,11,13,14,15,16
    python benchmarks/study.py --like smollm2-135m --data messages.csv --texts 100 --rows 1,3,4,16   # any shape

The backbone has the shape of the small GPT-2 and random weights: time does not depend on what the weights are. One by
one means a process of `lasttoken train` for each row and seed, each with an empty cache, as a reader of the chapter
would run them; the study is one process with an empty cache. Both run with the same threads, one after the other, and
write their results. `--texts` takes the first rows of the data, as many of each label.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from random_backbone import SHAPES, write_random_backbone

from lasttoken.backbone.pretrained import load_backbone
from lasttoken.core.book_rows import BOOK_ROWS, BookRow
from lasttoken.core.columns import UNNAMED
from lasttoken.core.config import Settings
from lasttoken.core.default_backbone import BUNDLED
from lasttoken.data.book import read_for_book
from lasttoken.data.files import read_examples

ROWS = "1,2,3,4,5,10,11,13,14,15,16,17,18,19"
MAIN = "from lasttoken.cli.main import main; main()"


def write_data(source: Path, n_texts: int, out: Path) -> Path:
    """The first texts of every label, as many of each, in a CSV file."""
    is_tsv = source.suffix in ("", ".tsv")
    examples = read_for_book(source, UNNAMED) if is_tsv else read_examples(source)
    labels = examples.labels or []
    names = sorted(set(labels))
    left = dict.fromkeys(names, n_texts // len(names))
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for text, label in zip(examples.texts, labels, strict=True):
            if left[label]:
                left[label] -= 1
                writer.writerow((text, label))
    return out


@dataclass(frozen=True)
class Seconds:
    """What a command took, by the clock and of the processor."""

    clock: float = 0.0
    processor: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.clock + other.clock, self.processor + other.processor)

    def __str__(self) -> str:
        return f"{self.clock:8.1f} s, {self.processor:8.1f} s of the processor"


def processor_seconds() -> float:
    """What all processes that have ended used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(arguments: Sequence[str], folder: Path, name: str) -> Seconds:
    """The seconds of a command with a cache of its own."""
    environment = {**os.environ, "LASTTOKEN_CACHE": str(folder / f"cache-{name}")}
    command = [sys.executable, "-c", MAIN, *arguments, "--quiet", "--json", "--offline"]
    started, before = time.perf_counter(), processor_seconds()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = Seconds(time.perf_counter() - started, processor_seconds() - before)
    if done.returncode:
        sys.exit(f"{name} failed: {done.stderr.strip()}")
    subprocess.run(["rm", "-rf", str(folder / f"cache-{name}")], check=True)
    return seconds


def train_seconds(rows: Sequence[BookRow], backbone: Path, arguments: argparse.Namespace, folder: Path) -> Seconds:
    """The seconds of the rows one by one."""
    total = Seconds()
    for row in rows:
        for seed in range(Settings.seed, Settings.seed + arguments.seeds):
            name = f"row {row.number} seed {seed}"
            command = ["train", str(folder / "data.csv"), "--recipe", "book", "--precision", "float32", *row.flags]
            command[command.index("--backbone") + 1] = str(backbone)
            command += ["--epochs", str(arguments.epochs), "--seed", str(seed), "--out", str(folder / name)]
            seconds = run(command, folder, name.replace(" ", "-"))
            total += seconds
            print(f"{name:20} {row.change:28} {seconds}", flush=True)
    return total


def study_seconds(rows: Sequence[BookRow], backbone: Path, arguments: argparse.Namespace, folder: Path) -> Seconds:
    """The seconds of the study, whose rows are printed too."""
    out = folder / "study"
    command = ["study", "book", "--data", str(folder / "data.csv"), "--backbone", str(backbone), "--out", str(out)]
    command += ["--rows", ",".join(str(row.number) for row in rows), "--seeds", str(arguments.seeds)]
    seconds = run([*command, "--epochs", str(arguments.epochs)], folder, "study")
    for row in json.loads((out / "study.json").read_text("utf-8"))["rows"]:
        training = row.get("seconds", 0.0) * (0 if row.get("same_as") else arguments.seeds)
        features = 0.0 if row.get("same_as") else row.get("trunk_s", 0.0)
        print(f"study {row['row']:42} training {training:8.1f} s  features {features:8.1f} s", flush=True)
    return seconds


def main() -> None:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="SMSSpamCollection, or a labelled file")
    parser.add_argument("--texts", type=int, default=1494, help="texts in all, as many of each label")
    parser.add_argument("--rows", default=ROWS, help="numbers of the chapter's rows, on the small GPT-2")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--like", choices=list(SHAPES), default="gpt2")
    parser.add_argument("--backbone", type=Path, help="a backbone folder in place of random weights")
    arguments = parser.parse_args()
    numbers = [int(number) for number in arguments.rows.split(",")]
    rows = [row for row in BOOK_ROWS if row.number in numbers]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backbone = arguments.backbone or folder / "backbone"
        if arguments.backbone is None:
            tokenizer = load_backbone(BUNDLED).tokenizer
            write_random_backbone(backbone, arguments.like, tokenizer, torch.float32)
        write_data(arguments.data, arguments.texts, folder / "data.csv")
        facts = f"{arguments.texts:,} texts, {arguments.epochs} epochs, {arguments.seeds} seeds"
        print(f"{facts}, {torch.get_num_threads()} threads")
        shared = study_seconds(rows, backbone, arguments, folder)
        one_by_one = train_seconds(rows, backbone, arguments, folder)
    print(f"one by one {one_by_one}\nstudy      {shared}")
    by_clock, by_processor = one_by_one.clock / shared.clock, one_by_one.processor / shared.processor
    print(f"{by_clock:.2f} times faster, {by_processor:.2f} times by the processor's seconds")


if __name__ == "__main__":
    main()
