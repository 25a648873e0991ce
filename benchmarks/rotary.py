"""Speed of the backbones with rotary positions, beside transformers and beside their own matrix multiplications.

    python benchmarks/random_backbone.py --like smollm2-135m --out RANDOM
    python benchmarks/rotary.py fine-tune --data SMSSpamCollection --backbone RANDOM    # needs accelerate
    python benchmarks/rotary.py score --data SMSSpamCollection
    python benchmarks/rotary.py trunk --data SMSSpamCollection
    … --isa avx2                                                  # any of them, without AVX-512 instructions

fine-tune: the last two blocks, the final norm and the head, batches of 32; `lasttoken train` against transformers'
Trainer (benchmarks/peer_rotary.py) on the same rows. Load, encoding, training, an evaluation of validation in each
epoch and one of test count on both sides. The Trainer's epoch is timed once a round and multiplied, since all its
epochs cost the same.
score: texts by the bundled backbone, against the text-classification pipeline at its best batch size on the
same weights; with OMP_NUM_THREADS=1 in processor time, so that other programs count little.
trunk: a thread's processor time for all blocks, against that of their matrix multiplications alone.
The sides alternate, --rounds times; medians are compared.
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

from busy import AVX2, processor
from train import COUNTED, HERE, PROGRAM, alternate, median, spread

from lasttoken.core.columns import SPLIT_COLUMNS
from lasttoken.data.files import read_examples
from lasttoken.data.label_tables import labels_of

Facts = dict[str, Any]
SPLITS = {"train": 0.7, "validation": 0.1, "test": 0.2}
TRUNK_TEXTS = 100
SCORED_RUN_ROWS = 100  # that the scored run is trained on; speed does not depend on them
TAIL = [
    *("--method", "tail", "--train-blocks", "2", "--keep", "last", "--prompt", "none", "--start-head", "drawn"),
    *("--learning-rate", "8e-4", "--batch-size", "32", "--device", "cpu", "--precision", "float32"),
]  # pairs of a flag and its value


def write_splits(data: Path, n_rows: int, folder: Path) -> Path:
    """The first rows of a file as a folder of splits."""
    examples = read_examples(data, SPLIT_COLUMNS)
    rows = list(zip(examples.texts, labels_of(examples), strict=True))[:n_rows]
    start = 0
    for name, fraction in SPLITS.items():
        end = start + round(fraction * len(rows))
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(rows[start:end])
        start = end
    return folder


def train(splits: Path, out: Path, *flags: str) -> Facts:
    """One `lasttoken train`, and the seconds of the parts that the peer has too; flags win over those of `TAIL`."""
    usual = [part for pair in zip(TAIL[::2], TAIL[1::2], strict=True) if pair[0] not in flags for part in pair]
    command = [
        *PROGRAM,
        "train",
        str(splits),
        "--out",
        str(out),
        "--overwrite",
        "--quiet",
        "--no-cache",
        *usual,
        *flags,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    timing = json.loads((out / "metrics.json").read_text("utf-8"))["timing_s"]
    return {"whole_s": sum(timing[part] for part in COUNTED), **{f"{part}_s": timing[part] for part in COUNTED}}


def process(script: str, *flags: str) -> Facts:
    """What one of the scripts beside this one prints."""
    command = [sys.executable, str(HERE / script), *flags]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.strip().splitlines()[-1])  # type: ignore[no-any-return]


def fine_tune(arguments: argparse.Namespace, work: Path) -> None:
    """Ours for each number of epochs and pooling, against the Trainer with both of its samplings."""
    splits = write_splits(arguments.data, arguments.rows, work)
    backbone = ("--backbone", str(arguments.backbone))

    def ours(epochs: str, read: str) -> Facts:
        return train(splits, work / "run", *backbone, "--ngrams", "none", "--epochs", epochs, "--read", read)

    def peer(sampling: str) -> Facts:
        flags = ("finetune", *backbone, "--data", str(splits), "--sampling", sampling)
        return process("peer_rotary.py", *flags)

    four, one, mean, random, grouped = alternate(
        arguments.rounds,
        lambda: ours("4", "last"),
        lambda: ours("1", "last"),
        lambda: ours("4", "last+mean"),
        lambda: peer("random"),
        lambda: peer("group_by_length"),
    )
    print(
        "| ours | the Trainer's batches | ratio | wanted | ours, seconds | the Trainer's |\n|---|---|---|---|---|---|"
    )
    for name, found, epochs in (("4 epochs", four, 4), ("1 epoch", one, 1), ("4 epochs, last+mean", mean, 4)):
        for sampling, peers in (("random", random), ("by length", grouped)):
            totals = [facts | {"whole_s": whole(facts, epochs)} for facts in peers]
            ratio = median(totals, "whole_s") / median(found, "whole_s")
            parts = ", ".join(f"{part} {median(found, part + '_s'):.1f}" for part in COUNTED)
            epoch = f"{spread(totals, 'whole_s')}: {median(totals, 'epoch_s'):.1f} an epoch"
            wanted = "≥ 7" if epochs == 4 else "—"
            print(f"| {name} | {sampling} | {ratio:.2f}× | {wanted} | {spread(found, 'whole_s')}: {parts} | {epoch} |")


def whole(facts: Facts, epochs: int) -> float:
    """The seconds of a Trainer's whole work."""
    seconds = facts["load_s"] + facts["encode_s"] + facts["test_s"]
    return float(seconds + epochs * (facts["epoch_s"] + facts["validation_s"]))


def score(arguments: argparse.Namespace, work: Path) -> None:
    """Texts a second of a classifier of the bundled backbone with and without n-grams, and of the pipeline."""
    splits = write_splits(arguments.data, SCORED_RUN_ROWS, work)
    train(splits, work / "run", "--depth", "16", "--epochs", "1", "--read", "last", "--ngrams", "characters")
    texts = work / "texts.json"
    texts.write_text(json.dumps(read_examples(arguments.data, SPLIT_COLUMNS).texts[-arguments.texts :]), "utf-8")
    files = ("--run", str(work / "run"), "--texts", str(texts))
    alone, blended, int8, peers = alternate(
        arguments.rounds,
        lambda: process("inside_rotary.py", "score", *files),
        lambda: process("inside_rotary.py", "score", *files, "--ngrams"),
        lambda: process("inside_rotary.py", "score", *files, "--precision", "int8"),
        lambda: process("peer_rotary.py", "score", *files),
    )
    theirs = median(peers, "texts_per_s")
    print("| ours | texts/s | the pipeline's | ratio | wanted |\n|---|---|---|---|---|")
    for name, found in (("float32", alone), ("float32 and n-grams", blended), ("int8", int8)):
        rate = median(found, "texts_per_s")
        print(f"| {name} | {rate:.0f} | {theirs:.0f} | {rate / theirs:.2f}× | {'—' if name == 'int8' else '≥ 3'} |")
    rates = [", ".join(f"{size}: {rate:.0f}" for size, rate in facts["rates"].items()) for facts in peers]
    print(f"\nThe pipeline's texts/s by batch size: {'; '.join(rates)}. Largest difference of logits: ", end="")
    print(f"{max(facts['difference'] for facts in peers):.1e}")


def trunk(arguments: argparse.Namespace, work: Path) -> None:
    """Tokens a second of one thread."""
    texts = work / "texts.json"
    texts.write_text(json.dumps(read_examples(arguments.data, SPLIT_COLUMNS).texts[:TRUNK_TEXTS]), "utf-8")
    flags = ("--backbone", str(arguments.backbone)) if arguments.backbone else ()
    found = [process("inside_rotary.py", "trunk", "--texts", str(texts), *flags) for _ in range(arguments.rounds)]
    print("| | tokens/s | GFLOP/s |\n|---|---|---|")
    for name, key in (("trunk", "trunk_s"), ("its matrix multiplications alone", "multiplications_s")):
        seconds = median(found, key)
        gflops = found[0]["flops"] / seconds / 1e9
        print(f"| {name} | {found[0]['n_tokens'] / seconds:.0f} | {gflops:.0f} |")
    print(f"\nRatio: {statistics.median(facts['multiplications_s'] / facts['trunk_s'] for facts in found):.2f}")


WORK = {"fine-tune": fine_tune, "score": score, "trunk": trunk}


def main() -> None:
    """Measure one comparison and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=list(WORK))
    parser.add_argument("--data", type=Path, required=True, help="the file SMSSpamCollection")
    parser.add_argument("--backbone", type=Path, help="a folder; fine-tune needs it, trunk takes the bundled one")
    parser.add_argument("--rows", type=int, default=500, help="rows of the fine-tuning")
    parser.add_argument("--texts", type=int, default=1000, help="texts to score")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--isa", choices=("all", "avx2"), default="all", help="which instructions may be used")
    arguments = parser.parse_args()
    if arguments.work == "fine-tune" and not arguments.backbone:
        parser.error("fine-tune needs --backbone")
    if arguments.isa == "avx2":
        os.environ.update(AVX2)
    threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    print(f"{processor()}, {threads} threads, instructions: {arguments.isa}, rounds: {arguments.rounds}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="lasttoken-bench-") as folder:
        WORK[arguments.work](arguments, Path(folder))


if __name__ == "__main__":
    main()
