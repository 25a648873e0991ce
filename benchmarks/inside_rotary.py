"""Our side of benchmarks/rotary.py, in a process of its own; prints one line of JSON.

    python benchmarks/inside_rotary.py score --run RUN --texts FILE.json
    python benchmarks/inside_rotary.py trunk --texts FILE.json

`trunk` measures one thread's processor time, the least of three runs, so that other programs count little.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lasttoken.backbone import onednn
from lasttoken.backbone.linear import Linear
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.classifier.encoding import batches_by_length
from lasttoken.classifier.predict import Predictor
from lasttoken.core.default_backbone import BUNDLED
from lasttoken.core.device import CPU
from lasttoken.core.process import tune_cpu

REPEATS = 3


def score(arguments: argparse.Namespace) -> dict[str, Any]:
    """Texts a second, of a predictor that is loaded and has its weights packed."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    texts = json.loads(arguments.texts.read_text("utf-8"))
    predictor = Predictor.load(arguments.run, device="cpu", precision=arguments.precision)
    if not arguments.ngrams:
        predictor.classifier.without_ngrams()
    predictor.predict(texts[:16])
    started = clock()
    predictor.predict(texts)
    return {"texts_per_s": len(texts) / (clock() - started)}


@torch.inference_mode()
def trunk(arguments: argparse.Namespace) -> dict[str, Any]:
    """The processor time of all blocks on packed texts, and of their matrix multiplications alone."""
    torch.set_num_threads(1)
    backbone = load_backbone(arguments.backbone)
    decoder = backbone.decoder.requires_grad_(False)
    layers = [module for block in decoder.blocks for module in block.modules() if isinstance(module, Linear)]
    for layer in layers:
        layer.pack()
    ids = backbone.tokenizer.encode_many(json.loads(arguments.texts.read_text("utf-8")))
    lengths = np.array([len(row) for row in ids])
    batches = [[ids[row] for row in rows] for rows in batches_by_length(lengths, CPU.token_budget)]
    packed = [(torch.tensor([i for row in rows for i in row]), [len(row) for row in rows]) for rows in batches]
    inputs = {layer.in_features: torch.randn(2 * CPU.token_budget, layer.in_features) for layer in layers}

    def run_blocks() -> None:
        for token_ids, sizes in packed:
            packing = Packing(sizes)
            x = decoder.embed(token_ids, packing.positions)
            for block in decoder.blocks:
                x = block(x, packing, True)

    def multiply() -> None:
        for token_ids, _ in packed:
            n_rows = onednn.round_up(len(token_ids))
            for layer in layers:
                onednn.multiply(
                    inputs[layer.in_features][:n_rows], layer.weight if layer.packed is None else layer.packed, None
                )

    n_tokens = int(lengths.sum())
    return {
        "trunk_s": least_seconds(run_blocks),
        "multiplications_s": least_seconds(multiply),
        "n_tokens": n_tokens,
        "flops": 2 * n_tokens * sum(layer.weight.numel() for layer in layers),
    }


def least_seconds(work: Callable[[], None]) -> float:
    """The least processor time of several runs."""
    work()
    times = []
    for _ in range(REPEATS):
        started = time.thread_time()
        work()
        times.append(time.thread_time() - started)
    return min(times)


def main() -> None:
    """One measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("score")
    one.add_argument("--run", type=Path, required=True)
    one.add_argument("--texts", type=Path, required=True)
    one.add_argument("--precision", default="float32")
    one.add_argument("--ngrams", action="store_true", help="with the run's n-gram model")
    one.set_defaults(work=score)
    two = verbs.add_parser("trunk")
    two.add_argument("--texts", type=Path, required=True)
    two.add_argument("--backbone", default=BUNDLED)
    two.set_defaults(work=trunk)
    arguments = parser.parse_args()
    tune_cpu()
    print(json.dumps(arguments.work(arguments)))


if __name__ == "__main__":
    main()
