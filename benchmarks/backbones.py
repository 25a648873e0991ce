"""Which backbone is better, and does int8 cost accuracy? Arms against the first one on the same rows, over seeds.

    python benchmarks/backbones.py old=FOLDER new=tests/fixtures/pocket int8=tests/fixtures/pocket:int8 \\
        --data demo sms=SMSSpamCollection sms-balanced=SMSSpamCollection trec=trec/ --out trials.jsonl

An arm is NAME=BACKBONE or NAME=BACKBONE:PRECISION. Each trains by the default recipe on all train rows, and on a few
of each label (`--shots`), drawn by the seed; for one seed all arms have the same train, validation and test rows. So
have the baselines, words and characters. The trunk runs once for each arm and data set. A folder is read up to all its
positions, a named backbone up to what it was trained on: --settings '{"max_length": 256}' holds them to the same.

The interval says how far a difference depends on which rows were tested. How far it depends on the seed, that is on
the split and on the few rows drawn, is in the spread over seeds.

Each training is a line of --out as soon as it is done. One that is there already, made of the same weights, settings
and rows, is not repeated: a killed benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rows import Bench, DataSet, Rows, Training, paired_interval

from lasttoken.backbone.pretrained import load_backbone
from lasttoken.core.device import Device, pick_device
from lasttoken.core.errors import UserError
from lasttoken.core.process import tune_cpu
from lasttoken.core.resolve import resolve
from lasttoken.evaluation.baselines import LabelledTexts, run_baselines
from lasttoken.evaluation.tasks.single_label import SingleLabel

BASELINES = {"words": "tfidf-logreg", "characters": "char-ngrams"}  # as the table names them, and as the package does
HEADER = ("data", "train", "arm", "mean test accuracy", "sd over seeds", "minus {}", "paired 95 % interval")

Key = tuple[str, str, int, int]  # arm, data, shots (0: all train rows), seed


@dataclass(frozen=True)
class Arm:
    """A backbone at a precision; `weights` is the hash of what it starts from."""

    name: str
    backbone: str
    device: Device
    weights: str

    @classmethod
    def parse(cls, text: str, device: str) -> Arm:
        """The arm NAME=BACKBONE[:PRECISION]; precision float32 unless said."""
        name, _, what = text.partition("=")
        backbone, _, precision = what.partition(":")
        if not name or not backbone or name in BASELINES:
            raise SystemExit(f"the arm {text!r} cannot be used; give NAME=BACKBONE[:PRECISION], no baseline's name")
        return cls(name, backbone, pick_device(device, precision or "float32"), weights_hash(backbone))


def weights_hash(name: str) -> str:
    """What a backbone is, whatever it is called: its shape, tensors and tokenizer."""
    backbone = load_backbone(name)
    digest = hashlib.sha256(f"{backbone.config}{backbone.max_length}{backbone.tokenizer.to_json()}".encode())
    for tensor_name, tensor in sorted(backbone.decoder.state_dict().items()):
        digest.update(tensor_name.encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


class Ledger:
    """The trainings that are done: a file of JSON lines, or nothing but memory."""

    def __init__(self, path: Path | None) -> None:
        """Read what an earlier benchmark left; a line that it was killed in the middle of is cut off."""
        self.path = path
        self.done: dict[Key, Training] = {}
        if path is None or not path.exists():
            return
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for line in map(json.loads, whole.splitlines()):
            self.done[line["arm"], line["data"], line["shots"], line["seed"]] = line
        if whole != content:
            os.truncate(path, len(whole))

    def get(self, key: Key, made_of: Sequence[object], train: Callable[[], Training]) -> Training:
        """The training of this key: from the file, or done now and added to it."""
        arm, data, shots, seed = key
        digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
        if key not in self.done:
            line = {"arm": arm, "data": data, "shots": shots, "seed": seed, "made_of": digest, **train()}
            if self.path:
                with self.path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            self.done[key] = line
            seconds = line["trunk_s"] + line["tail_s"]
            where = f"{data}, {arm}, {amount(shots)}, seed {seed}"
            print(f"{where}: {line['accuracy']:.2%} ({seconds:.0f} s)", file=sys.stderr)
        elif self.done[key]["made_of"] != digest:
            raise SystemExit(
                f"{self.path} has a training of {arm!r} on {data!r} ({amount(shots)}, seed {seed}) that was made of "
                "other weights, settings or rows; give another --out, or the arm or the data set another name"
            )
        return self.done[key]


def amount(shots: int) -> str:
    """How many train rows."""
    return f"{shots} of each label" if shots else "all"


def rows_for(data: DataSet, shots: int, seed: int) -> tuple[Rows, list[object]]:
    """The rows of each split, and all that they hold, for Ledger.get."""
    rows = data.few(seed, shots) if shots else data.split(seed)
    return rows, [[name, *data.texts_and_labels(at)] for name, at in rows.items()]


def train_arm(
    ledger: Ledger, arm: Arm, data: DataSet, shots: Sequence[int], seeds: int, overrides: dict[str, Any]
) -> dict[int, list[Training]]:
    """The trainings of an arm on a data set, by shots, in the order of the seeds."""
    bench = Bench(data, arm.backbone, arm.device)

    def one(n: int, seed: int) -> Training:
        rows, content = rows_for(data, n, seed)
        place = {"backbone": arm.backbone, "device": arm.device.torch_device.type, "precision": arm.device.precision}
        settings = resolve("default", overrides, {**place, "seed": seed})
        course = settings.that_change_training()
        made_of = [arm.weights, course, content]
        return ledger.get((arm.name, data.name, n, seed), made_of, lambda: {**place, **bench.train(settings, rows)})

    return {n: [one(n, seed) for seed in range(seeds)] for n in shots}


def train_baselines(
    ledger: Ledger, data: DataSet, shots: Sequence[int], seeds: int
) -> dict[str, dict[int, list[Training]]]:
    """The cheap models on the same rows, as `train_arm` gives them, by name."""

    def both(n: int, seed: int) -> list[Training]:
        rows, content = rows_for(data, n, seed)

        def figures(name: str) -> Training:
            train, test = (
                LabelledTexts([data.texts[row] for row in rows[split]], data.label_ids[rows[split]])
                for split in ("train", "test")
            )
            started = time.perf_counter()
            found = run_baselines(SingleLabel(tuple(data.labels)), train, {"test": test}, seed, (BASELINES[name],))
            tail_s = round(time.perf_counter() - started, 2)
            accuracy = found[BASELINES[name]].metrics["test"].accuracy
            return {"accuracy": accuracy, "trunk_s": 0.0, "tail_s": tail_s}

        return [ledger.get((name, data.name, n, seed), content, partial(figures, name)) for name in BASELINES]

    found = {n: [both(n, seed) for seed in range(seeds)] for n in shots}
    return {name: {n: [line[at] for line in found[n]] for n in shots} for at, name in enumerate(BASELINES)}


def table_row(data: str, shots: int, arm: str, lines: list[Training], reference: list[Training]) -> tuple[str, ...]:
    """A row of the table, in percent; a baseline has no answers by row, hence no difference."""
    accuracies = [line["accuracy"] for line in lines]
    spread = f"{statistics.stdev(accuracies):.2%}" if len(accuracies) > 1 else "%"
    difference = interval = "%"
    if lines is not reference and "correct" in lines[0]:
        mean, low, high = paired_interval(lines, reference)
        difference, interval = f"{mean:+.2%}", f"{low:+.2%} to {high:+.2%}"
    figures = [text.replace("%", "") for text in (spread, difference, interval)]
    return (data, amount(shots), arm, f"{statistics.mean(accuracies):.2%}".replace("%", " %"), *figures)


def print_row(cells: Sequence[str]) -> None:
    """A row of a Markdown table."""
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Train the arms and the baselines on each data set, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="+", help="NAME=BACKBONE[:PRECISION]; the first is what the others are held to")
    parser.add_argument("--data", nargs="+", default=["demo"], help="demo, name=file, name=folder, sms-balanced=file")
    parser.add_argument("--shots", nargs="*", type=int, default=[16], help="train rows of each label, beside all")
    parser.add_argument("--few-only", action="store_true", help="leave out the trainings on all train rows")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--settings", type=json.loads, default={}, help='of every arm, such as {"epochs": 1}')
    parser.add_argument(
        "--out", type=Path, help="append each training as a line of JSON, and repeat none that is there"
    )
    arguments = parser.parse_args()
    tune_cpu()
    arms = [Arm.parse(text, arguments.device) for text in arguments.arms]
    data_sets = [DataSet(name) for name in arguments.data]
    for what, names in (("arms", [arm.name for arm in arms]), ("data sets", [data.name for data in data_sets])):
        if len(set(names)) < len(names):
            parser.error(f"two {what} have one name; all results are kept by name, so give each its own")
    shots = [n for n in dict.fromkeys((0, *arguments.shots)) if n or not arguments.few_only]
    ledger = Ledger(arguments.out)
    print_row([cell.format(arms[0].name) for cell in HEADER])
    print_row(["---"] * len(HEADER))
    for data in data_sets:
        found = {
            arm.name: train_arm(ledger, arm, data, shots, arguments.seeds, arguments.settings) for arm in arms
        } | train_baselines(ledger, data, shots, arguments.seeds)
        for n in shots:
            for name, lines in found.items():
                print_row(table_row(data.name, n, name, lines[n], found[arms[0].name][n]))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
