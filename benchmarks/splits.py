"""The classifier and its baselines over several splits of the same data, and several heads on each.

    python benchmarks/splits.py SMSSpamCollection --splits 5 --seeds 5

Each split is the default one by another seed: leak-free, near-duplicates on one side. Accuracy of test; the best
baseline is the one with the highest mean.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from lasttoken.core.default_backbone import default_backbone
from lasttoken.core.process import tune_cpu
from lasttoken.core.resolve import resolve
from lasttoken.runs.train import TrainingRequest, train_run

FIRST_SEED = 123
STEP = 1000  # between the seeds of two splits, so that their heads differ


def main() -> None:
    """Print a row for each split, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default=default_backbone())
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1, help="heads and orders for each split")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other settings, as text")
    args = parser.parse_args()
    tune_cpu()
    others = dict(one.split("=", 1) for one in args.set)
    typed = {
        name: int(value) if value.isdigit() and name != "train_blocks" else value for name, value in others.items()
    }
    rows: list[dict[str, float]] = []
    for at in range(args.splits):
        settings = resolve(
            "default", {"backbone": args.backbone, "seed": FIRST_SEED + STEP * at, "seeds": args.seeds}, typed
        )
        metrics = train_run(TrainingRequest(data=args.data, settings=settings, offline=True)).metrics
        gpt = metrics["seeds"]["mean"]["accuracy"] if args.seeds > 1 else metrics["splits"]["test"]["accuracy"]
        row = {"GPT": gpt} | {name: found["test"]["accuracy"] for name, found in metrics["baselines"].items()}
        if not rows:
            print("| split | " + " | ".join(row) + " |\n|---" + "|---" * len(row) + "|")
        rows.append(row)
        print(f"| {settings.seed} | " + " | ".join(f"{value * 100:.2f}" for value in row.values()) + " |", flush=True)
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    print("| mean | " + " | ".join(f"{value * 100:.2f}" for value in mean.values()) + " |")
    best = max((name for name in mean if name != "GPT"), key=mean.__getitem__)
    gaps = np.array([row["GPT"] - row[best] for row in rows]) * 100
    print(f"\nGPT less {best}: {gaps.mean():+.2f} points (sd over splits {gaps.std(ddof=1):.2f})")


if __name__ == "__main__":
    main()
