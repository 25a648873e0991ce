"""Where and how a frozen backbone is read best: depth, pooling and prompt, by a linear head on held-out rows of train.

    python benchmarks/reading.py --backbone smollm2-135m-q4 --depths 14,16,24 trec=DATA/train.csv hwu64=DATA/train.csv
    ... --prompt none --prompt '<|im_start|>user\\n{text}<|im_end|>\\n<|im_start|>assistant\\n' --few 16 --rows 1200

For each file, a quarter of `--rows` random rows is held out, and a logistic regression is fitted to the rest, or to
`--few` rows of each label (mean of four draws). C is the best of five on the held-out rows, for every way of reading
alike, so the values are a little too high for all. Files of test rows are not to be given: this is for choosing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.device import CPU
from lasttoken.core.process import tune_cpu
from lasttoken.core.prompt import from_command_line
from lasttoken.core.resolve import resolve
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs.session import open_session
from lasttoken.training.depths import DepthFeatures, depth_features, pooled
from lasttoken.training.linear import ROUGH, Design, LinearPath

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)
READS = ("last", "mean", "last+mean")
DRAWS = 4
Ids = NDArray[np.int64]


def held_out_accuracy(features: NDArray[np.float32], label_ids: Ids, fitted: Ids, held_out: Ids) -> float:
    """The best accuracy of the path over C, in percent."""
    truth = label_ids[fitted][:, None] == np.arange(label_ids.max() + 1)
    design = Design.of(features[fitted])
    path = LinearPath(design, np.arange(len(fitted)), truth, exclusive=True, tolerance=ROUGH)
    heads = [path.solve(strength) for strength in STRENGTHS]
    return max(float((head.logits(features[held_out]).argmax(1) == label_ids[held_out]).mean()) for head in heads) * 100


def draws(label_ids: Ids, fitted: Ids, few: int | None) -> list[Ids]:
    """The rows that are fitted: all, or several draws of `few` rows for each label."""
    if few is None:
        return [fitted]
    chosen = []
    for seed in range(DRAWS):
        order = np.random.default_rng(seed).permutation(fitted)
        chosen.append(np.concatenate([order[label_ids[order] == label][:few] for label in np.unique(label_ids)]))
    return chosen


def features_of(examples: Examples, backbone: str, depths: list[int], prompt: str) -> DepthFeatures:
    """The last token's state and the mean of the tokens after each depth."""
    given = {"backbone": backbone, "method": "linear", "depth": str(max(depths)), "read": "last", "prompt": prompt}
    session = open_session(Splits(examples, examples.take([0, 1]), None), resolve("default", given), CPU)
    return depth_features(session.trunk, session.prepared.encoded["train"], depths)


def main() -> None:
    """Print one table for all files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--depths", required=True, type=lambda text: [int(depth) for depth in text.split(",")])
    parser.add_argument("--prompt", action="append", help="a template, auto or none; repeat it. Default: none, auto")
    parser.add_argument("--rows", type=int, default=1_200)
    parser.add_argument("--few", type=int)
    args = parser.parse_args()
    tune_cpu()
    print(f"| data | prompt | depth | {' | '.join(READS)} |\n|---|---|---|{'---|' * len(READS)}")
    for named in args.data:
        name, _, file = named.partition("=")
        everything = read_examples(Path(file))
        rows = np.random.default_rng(0).permutation(len(everything))[: args.rows]
        examples = everything.take(rows)
        _, label_ids = np.unique(np.array(examples.labels), return_inverse=True)
        n_fitted = len(rows) * 3 // 4
        fitted, held_out = np.arange(n_fitted), np.arange(n_fitted, len(rows))
        for prompt in args.prompt or ("none", "auto"):
            features = features_of(examples, args.backbone, args.depths, from_command_line(prompt))
            for depth in args.depths:
                values = [
                    np.mean(
                        [
                            held_out_accuracy(pooled(features.at(depth), read), label_ids, draw, held_out)
                            for draw in draws(label_ids, fitted, args.few)
                        ]
                    )
                    for read in READS
                ]
                shown = prompt.replace("|", "\\|").replace("\n", "\\n")
                print(f"| {name} | {shown} | {depth} | {' | '.join(f'{value:.1f}' for value in values)} |", flush=True)


if __name__ == "__main__":
    main()
