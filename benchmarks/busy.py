"""How fast is it on a machine that has other work to do? Prints a table; see benchmarks/*-busy.md.

    python benchmarks/busy.py --backbone RANDOM --data SMSSpamCollection                # quiet, and beside 1 and 2 jobs
    python benchmarks/busy.py --backbone RANDOM --data SMSSpamCollection --isa avx2     # without AVX-512 instructions

The other jobs are processes that compute without pause, one thread each. For each number of them, ours and the peer
alternate, as in benchmarks/train.py: the chapter's fine-tuning (`--recipe book --read last`), and the trunk's rate
beside a plain matrix product of the same shape by oneDNN, which runs in the same process a moment later. `--isa avx2`
tells oneDNN, MKL and torch to use AVX2 only, which is how older processors compute; their clocks and caches differ.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from train import Bench, Facts, alternate, inside, median, spread

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
JOB = "while True: sum(range(100_000))"


def processor() -> str:
    """The processor's name, as the system gives it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@contextlib.contextmanager
def other_jobs(n: int) -> Iterator[None]:
    """n processes that compute until the block ends."""
    jobs = [subprocess.Popen([sys.executable, "-c", JOB]) for _ in range(n)]
    try:
        yield
    finally:
        for job in jobs:
            job.kill()
            job.wait()


def trunk(bench: Bench) -> Facts:
    """The trunk's rate and a plain product's, in one process."""
    return inside("kernels", "--backbone", str(bench.arguments.backbone), "--data", str(bench.arguments.data))


def rows(bench: Bench, n_jobs: int, quiet_trunk_s: float | None) -> float:
    """The rows for one number of other jobs, printed; the median seconds of the trunk."""
    beside = f"beside {n_jobs} {'job' if n_jobs == 1 else 'jobs'}" if n_jobs else "quiet"
    with other_jobs(n_jobs):
        ours, peer, kernels = alternate(
            bench.arguments.rounds,
            lambda: bench.ours("--read", "last", "--precision", "float32", out="float32"),
            lambda: bench.peer_finetune("batch"),
            lambda: trunk(bench),
        )
    parts = ", ".join(f"{part} {median(ours, part + '_s'):.1f}" for part in ("trunk", "tail"))
    bench.tell(
        f"fine-tune, {beside}", "transformers, padded to the batch",
        median(peer, "whole_s") / median(ours, "whole_s"), "≥ 7",
        f"{spread(ours, 'whole_s')}: {parts}; transformers {spread(peer, 'whole_s')}",
    )  # fmt: skip
    ratios = sorted(facts["trunk_flops"] / facts["best_flops"] for facts in kernels)
    bench.tell(
        f"trunk, {beside}", "a plain product by oneDNN", ratios[len(ratios) // 2], "≥ 0.85 quiet",
        f"{median(kernels, 'trunk_flops') / 1e9:.0f} against {median(kernels, 'best_flops') / 1e9:.0f} GFLOP/s",
    )  # fmt: skip
    trunk_s = median(ours, "trunk_s")
    if quiet_trunk_s:
        bench.tell(
            f"trunk, {beside}", "quiet", trunk_s / quiet_trunk_s, "≤ 2.2 beside 1",
            f"{spread(ours, 'trunk_s')} against {quiet_trunk_s:.1f} s",
        )  # fmt: skip
    return trunk_s


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the file SMSSpamCollection")
    parser.add_argument("--jobs", type=int, nargs="+", default=[0, 1, 2], help="numbers of other jobs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="steps of the peer that are timed and scaled")
    parser.add_argument("--isa", choices=("all", "avx2"), default="all", help="which instructions may be used")
    arguments = parser.parse_args()
    if arguments.isa == "avx2":
        os.environ.update(AVX2)
    print(f"{processor()}, {os.cpu_count()} cores, instructions: {arguments.isa}\n")
    print("| what | against | ratio | wanted | medians |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="lasttoken-bench-") as folder:
        bench, quiet_trunk_s = Bench(arguments, Path(folder)), None
        for n_jobs in arguments.jobs:
            trunk_s = rows(bench, n_jobs, quiet_trunk_s)
            quiet_trunk_s = quiet_trunk_s or (trunk_s if n_jobs == 0 else None)


if __name__ == "__main__":
    main()
