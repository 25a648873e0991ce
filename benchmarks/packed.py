"""Time and memory of a GGUF backbone: reading it, dequantizing at load, and dequantizing at each use.

    python benchmarks/packed.py SmolLM2-135M-Instruct.Q4_1.gguf          # about a minute

Prints the rows of the table in 2026-11-26-gguf.md. Times are processor times of one thread, the smallest of three, so
that other programs on the machine count little.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gguf
import torch
from torch.nn.functional import linear

from lasttoken.backbone.gguf.file import GGUFFile
from lasttoken.backbone.pretrained import load_backbone

ROWS = 512  # tokens in a batch
DEPTH = 16


def main() -> None:
    """Measure and print."""
    path = Path(sys.argv[1])
    if len(sys.argv) > 2:  # in a process of its own, for its peak memory
        load_backbone(str(path), depth=int(sys.argv[2]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    torch.set_num_threads(1)
    file = GGUFFile(path)
    print(f"| header by gguf.GGUFReader | {seconds(lambda: gguf.GGUFReader(path)):.2f} s |")
    print(f"| header by GGUFFile | {seconds(lambda: GGUFFile(path)):.3f} s |")
    for depth in (DEPTH, None):
        took = seconds(lambda depth=depth: load_backbone(str(path), depth=depth))  # type: ignore[misc]
        print(f"| load_backbone, {depth or 'all'} blocks | {took:.2f} s |")
    names = [name for name in file.tensors if name.startswith("blk.0.") and len(file.tensors[name].shape) == 2]
    blocks = [file.blocks(name) for name in names]
    weights = [tensor.dequantize() for tensor in blocks]
    inputs = [torch.randn(ROWS, weight.shape[1]) for weight in weights]
    multiply = seconds(lambda: [linear(x, weight) for x, weight in zip(inputs, weights, strict=True)])
    dequantize = seconds(lambda: [tensor.dequantize() for tensor in blocks])
    packed = sum(tensor.raw.nbytes for tensor in blocks)
    print(f"| multiplications of a block, {ROWS} tokens | {multiply * 1000:.1f} ms |")
    print(f"| dequantizing that block | {dequantize * 1000:.1f} ms |")
    print(
        f"| memory of that block, packed and in float32 | {packed / 1e6:.2f} and {4 * numbers(weights) / 1e6:.2f} MB |"
    )
    peak = subprocess.run([sys.executable, __file__, path, str(DEPTH)], capture_output=True, text=True, check=True)
    print(f"| peak memory of a process that loads {DEPTH} blocks | {int(peak.stdout) / 1000:.0f} MB |")


def numbers(weights: list[torch.Tensor]) -> int:
    """How many numbers there are."""
    return sum(weight.numel() for weight in weights)


def seconds(work: Callable[[], object]) -> float:
    """The smallest processor time of three runs."""
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
