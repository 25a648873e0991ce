"""Does torch.compile pay for the blocks of a tail? Steps of random texts of varying lengths, plain or compiled.

    OMP_NUM_THREADS=1 python benchmarks/compiled.py --backbone FOLDER --blocks 2
    OMP_NUM_THREADS=1 python benchmarks/compiled.py --backbone FOLDER --blocks 2 --compile
    OMP_NUM_THREADS=1 python benchmarks/compiled.py --backbone FOLDER --blocks 2 --compile --plain-operations

FOLDER is one of random_backbone.py. Prints the seconds and CPU seconds of each step: 16 texts of 16 to 64 tokens,
forward, backward and AdamW. `--compile` compiles each trained block with dynamic shapes. `--plain-operations` puts
torch's own linear layer and a rotation of plain operations in place of ours, which is what a compiler can see into.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from lasttoken.backbone.packing import Packing
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.backbone.rotary.rope import Table
from lasttoken.classifier.classifier import Classifier, ClassifierConfig
from lasttoken.core.process import tune_cpu
from lasttoken.training.adamw import AdamW

N_TEXTS, SHORTEST, LONGEST = 16, 16, 64


def rotate(x: Tensor, table: Table) -> Tensor:
    """The rotation of rope.py in plain operations."""
    (a, b), (cos, sin) = x.chunk(2, -1), table
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def tail_classifier(backbone: Path, depth: int, blocks: str) -> Classifier:
    """A classifier on the first blocks of a backbone."""
    config = ClassifierConfig(
        labels=("ham", "spam"), read="last", causal_mask=True, max_length=LONGEST, truncate="tail", train_blocks=blocks,
        end_of_text_id=0, backbone=str(backbone),
    )  # fmt: skip
    return Classifier(load_backbone(str(backbone), True, depth).decoder, config, 1)


def main() -> None:
    """Print a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--depth", type=int, default=4, help="blocks of the backbone that are used")
    parser.add_argument("--blocks", default="2", help="trained blocks, or all")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--plain-operations", action="store_true")
    arguments = parser.parse_args()
    tune_cpu()
    classifier = tail_classifier(arguments.backbone, arguments.depth, arguments.blocks)
    if arguments.plain_operations:
        mock.patch("lasttoken.backbone.onednn.has_onednn", return_value=False).start()
        mock.patch("lasttoken.backbone.rotary.attention.rotate", rotate).start()
    if arguments.compile:
        for block in classifier.decoder.blocks[classifier.n_frozen or 0 :]:
            block.forward = torch.compile(block.forward, dynamic=True)  # type: ignore[method-assign]
            block.forward_at = torch.compile(block.forward_at, dynamic=True)  # type: ignore[method-assign]
    draw, optimizer = np.random.default_rng(0), AdamW(classifier.trained(), 0.1)
    print("step", "tokens", "loss", "seconds", "CPU seconds", sep="\t")
    for step in range(arguments.steps):
        packing = Packing(draw.integers(SHORTEST, LONGEST + 1, N_TEXTS).tolist())
        token_ids = torch.from_numpy(draw.integers(0, 4000, packing.n_tokens))
        with torch.no_grad():
            features = classifier.trunk(token_ids, packing)
        started, cpu = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(classifier.tail(features, packing), torch.arange(N_TEXTS) % 2)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(1e-5)
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu
        print(step, packing.n_tokens, f"{loss.item():.6f}", f"{seconds:.2f}", f"{cpu_s:.2f}", sep="\t", flush=True)


if __name__ == "__main__":
    main()
