"""Long texts: what the trunk and a training step cost at each length, and what reading more tokens gains.

    python benchmarks/lengths.py cost --lengths 128 512 1024 2048 4096 8192
    python benchmarks/lengths.py gain train.csv.gz test.csv.gz --rows 500 400 --depth 10

`cost` runs each length in a process of its own: tokens a second of the frozen trunk, seconds of one training step of
the last two blocks with 16 texts of that length, and the peak of the process's memory.

`gain` runs the first blocks once over each text, without a prompt. Under the causal mask the states of the first m
tokens do not depend on those behind, so one pass gives the features of every limit. A logistic regression reads the
last of the m tokens and their mean. One more line is for a text of 512 tokens made of its first 384 and its last 128.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lasttoken.backbone.packing import Packing
from lasttoken.backbone.pretrained import Backbone, load_backbone
from lasttoken.classifier.classifier import Classifier, ClassifierConfig
from lasttoken.classifier.encoding import Encoded
from lasttoken.core.default_backbone import default_backbone
from lasttoken.core.device import CPU
from lasttoken.core.process import tune_cpu
from lasttoken.training.features import TrunkPass

BATCH = 16  # the default --batch-size
LIMITS = (64, 128, 256, 512, 1024)
HEAD, TAIL = 384, 128  # tokens


def main() -> None:
    """The two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default=default_backbone())
    commands = parser.add_subparsers(dest="command", required=True)
    cost = commands.add_parser("cost")
    cost.add_argument("--lengths", type=int, nargs="+", default=[128, 512, 1024, 2048, 4096, 8192])
    gain = commands.add_parser("gain")
    gain.add_argument("train", type=Path)
    gain.add_argument("test", type=Path)
    gain.add_argument("--rows", type=int, nargs=2, default=[500, 400], help="of train and of test, drawn")
    gain.add_argument("--depth", type=int, default=10)
    args = parser.parse_args()
    if args.command == "gain":
        print_gain(args.train, args.test, args.rows, load_backbone(args.backbone, depth=args.depth))
    elif len(args.lengths) == 1:
        print_cost(args.lengths[0], load_backbone(args.backbone))
    else:
        for length in args.lengths:
            command = [sys.executable, __file__, "--backbone", args.backbone, "cost", "--lengths", str(length)]
            subprocess.run(command, check=True)


# Cost ----------------------------------------------------------------------------------------------------------------


def print_cost(length: int, backbone: Backbone) -> None:
    """One line about one length."""
    tune_cpu()
    config = ClassifierConfig(
        labels=("a", "b"),
        read="last",
        causal_mask=True,
        max_length=length,
        truncate="tail",
        train_blocks="2",
        end_of_text_id=backbone.end_of_text_id,
        backbone=backbone.name,
    )
    classifier = Classifier(backbone.decoder, config, 123)
    trunk = TrunkPass(classifier, CPU, cache=None, say=print)
    trunk.source(random_texts(2, 64, backbone), "warm-up")
    n = max(2, min(BATCH, 16_384 // length))
    started = time.perf_counter()
    source = trunk.source(random_texts(n, length, backbone), "all")
    trunk_s, trunk_bytes = time.perf_counter() - started, peak_bytes()
    started = time.perf_counter()
    features, packing = source.batch([row % n for row in range(BATCH)])
    torch.autograd.backward(classifier.tail(features, packing).sum())
    print(
        f"{length:6,} tokens: trunk {n * length / trunk_s:7,.0f} tokens/s, peak {trunk_bytes / 1e9:.1f} GB; a step of "
        f"{BATCH} texts {time.perf_counter() - started:6.1f} s, peak {peak_bytes() / 1e9:.1f} GB",
        flush=True,
    )


def random_texts(n: int, length: int, backbone: Backbone) -> Encoded:
    """Texts of random tokens, all of one length."""
    token_ids = np.random.default_rng(0).integers(0, backbone.tokenizer.n_tokens, n * length).astype(np.int32)
    return Encoded(token_ids, np.full(n, length, dtype=np.int64), np.zeros(n, dtype=np.bool_), 0)


def peak_bytes() -> int:
    """The most memory that this process has had; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# Gain ----------------------------------------------------------------------------------------------------------------


def print_gain(train: Path, test: Path, n_rows: list[int], backbone: Backbone) -> None:
    """A line for each limit: accuracy, and its difference from the limit of 512 with a 95 % interval."""
    tune_cpu()
    random = np.random.default_rng(0)
    texts, labels = zip(*(rows_of(path, n, random) for path, n in zip((train, test), n_rows, strict=True)), strict=True)
    inputs = [np.stack([features_of(text, backbone) for text in part]) for part in texts]  # [N, limits + 1, 2 C]
    correct = {
        name: correctly(inputs[0][:, at], labels[0], inputs[1][:, at], labels[1])
        for at, name in enumerate([*map(str, LIMITS), f"{HEAD} first and {TAIL} last"])
    }
    for name, row in correct.items():
        difference = row - correct["512"]
        half = 1.96 * difference.std() / len(difference) ** 0.5
        print(
            f"{name:>24} tokens: accuracy {row.mean():.1%}, against 512 {difference.mean():+.1%} ± {half:.1%}",
            flush=True,
        )


def rows_of(path: Path, n: int, random: np.random.Generator) -> tuple[list[str], list[str]]:
    """Texts and labels of n rows, drawn."""
    csv.field_size_limit(2**31 - 1)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    drawn = [rows[row] for row in random.permutation(len(rows))[:n]]
    return [row["text"] for row in drawn], [row["label"] for row in drawn]


@torch.no_grad()
def features_of(text: str, backbone: Backbone) -> NDArray[np.float32]:
    """Last state and mean [limits + 1, 2 C] of the first tokens up to each limit, and of the two ends."""
    ids = backbone.tokenizer.encode(text) or [backbone.end_of_text_id]
    states = states_of(ids[: LIMITS[-1]], backbone)
    ends = states_of([*ids[:HEAD], *ids[-TAIL:]], backbone) if len(ids) > HEAD + TAIL else states
    return np.stack([np.concatenate([part[-1], part.mean(0)]) for part in [*(states[:m] for m in LIMITS), ends]])


def states_of(ids: list[int], backbone: Backbone) -> NDArray[np.float32]:
    """The states [T, C] after the final norm."""
    return np.asarray(backbone.decoder(torch.tensor(ids), Packing([len(ids)])))


def correctly(
    train: NDArray[np.float32], train_labels: list[str], test: NDArray[np.float32], test_labels: list[str]
) -> NDArray[np.float64]:
    """Whether a logistic regression predicts each test row's label, 0 or 1."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)).fit(train, train_labels)
    return np.asarray(model.predict(test) == np.array(test_labels), dtype=np.float64)


if __name__ == "__main__":
    main()
