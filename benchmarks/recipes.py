"""Which settings should be the default? Recipes against each other on the same rows, paired, over seeds.

    python benchmarks/recipes.py --data sms=SMSSpamCollection trec=trec/ demo --seeds 5 --out trials.jsonl

For each data set and seed the rows are split once (leak-free, stratified); every recipe trains on the same train
rows, chooses by the same validation rows and is measured on the same test rows. A folder of official splits keeps
its test split and cuts validation from train by the seed. The frozen trunk runs once for each depth and reading,
over all rows; every seed and recipe shares it, which is what makes some hundred trainings a matter of minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from rows import Bench, DataSet, paired_interval

from lasttoken.core.default_backbone import default_backbone
from lasttoken.core.process import tune_cpu
from lasttoken.core.resolve import resolve

BOOK: dict[str, Any] = {"recipe": "book"}


def run(bench: Bench, overrides: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one recipe on one split."""
    settings = resolve(str(overrides.get("recipe", "default")), {**overrides, "seed": seed})
    return {"data": bench.data.name, "seed": seed, **bench.train(settings, bench.data.split(seed))}


def main() -> None:
    """Run recipes (name=JSON of settings) on data sets, and print a table of means and paired differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["demo"], help="demo, name=file, name=folder, sms-balanced=file")
    parser.add_argument("--recipe", nargs="*", default=[], help='name={"epochs": 5, ...}; default and book always run')
    parser.add_argument("--backbone", default=default_backbone())
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="append each training as a line of JSON")
    arguments = parser.parse_args()
    tune_cpu()
    recipes: dict[str, dict[str, Any]] = {"book": BOOK, "default": {}}
    for text in arguments.recipe:
        name, _, content = text.partition("=")
        recipes[name] = json.loads(content)
    print("data\trecipe\tmean accuracy\tsd over seeds\tminus book\t95% interval\ttail seconds")
    for data in arguments.data:
        bench = Bench(DataSet(data), arguments.backbone)
        found: dict[str, list[dict[str, Any]]] = {}
        for name, overrides in recipes.items():
            found[name] = [run(bench, overrides, seed) for seed in range(arguments.seeds)]
            if arguments.out:
                with arguments.out.open("a") as file:
                    for line in found[name]:
                        file.write(json.dumps({"recipe": name, "settings": overrides, **line}) + "\n")
            accuracies = [line["accuracy"] for line in found[name]]
            difference, low, high = paired_interval(found[name], found["book"])
            spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
            print(
                f"{bench.data.name}\t{name}\t{statistics.mean(accuracies):.4f}\t{spread:.4f}\t{difference:+.4f}\t"
                f"{low:+.4f} to {high:+.4f}\t{statistics.median(line['tail_s'] for line in found[name]):.1f}"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
