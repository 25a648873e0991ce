"""What five seeds and five folds cost, against one trunk and five tails.

    python benchmarks/repeats.py SMSSpamCollection --times 3

Each time a run by itself, one with --seeds 5 and one with --folds 5 are trained in turn, without a cache. The figure
is (trunk + all trainings) / (trunk + 5 tails of the run by itself), from the medians of metrics.json's seconds. A fold
trains on as many rows as the run, so it is held to the same; its baselines are counted too.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

from lasttoken.core.default_backbone import default_backbone
from lasttoken.core.process import tune_cpu
from lasttoken.core.resolve import resolve
from lasttoken.runs.train import TrainingRequest, train_run

KINDS = {"by itself": {}, "--seeds 5": {"seeds": 5}, "--folds 5": {"folds": 5}}
N = 5


def main() -> None:
    """Print a table of seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default=default_backbone())
    parser.add_argument("--times", type=int, default=3)
    args = parser.parse_args()
    tune_cpu()
    found: dict[str, dict[str, list[float]]] = {kind: {"trunk": [], "tail": [], "repeats": []} for kind in KINDS}
    for _ in range(args.times):
        for kind, changes in KINDS.items():
            settings = resolve("default", {"backbone": args.backbone, "no_cache": True}, changes)
            seconds = train_run(TrainingRequest(data=args.data, settings=settings, offline=True)).metrics["timing_s"]
            for part, values in found[kind].items():
                values.append(seconds.get(part, 0.0))
    middle = {kind: {part: median(values) for part, values in parts.items()} for kind, parts in found.items()}
    allowed = middle["by itself"]["trunk"] + N * middle["by itself"]["tail"]
    print("| run | trunk, s | tail, s | the other trainings, s | all / (trunk + 5 tails) |")
    print("|---|---|---|---|---|")
    for kind, parts in middle.items():
        ratio = "" if kind == "by itself" else f"{sum(parts.values()) / allowed:.2f}"
        print(f"| {kind} | {parts['trunk']:.2f} | {parts['tail']:.2f} | {parts['repeats']:.2f} | {ratio} |")


if __name__ == "__main__":
    main()
