"""What `lasttoken train` gives without any flag, against the best bag of words or characters, over seeds.

    python benchmarks/defaults.py trec=trec/ sms=SMSSpamCollection --seeds 5
    python benchmarks/defaults.py trec=trec/ hwu64=hwu64/ --few 16 --seeds 5 -- --backbone smollm2-135m-q4

Each seed is a whole run of the command in a process of its own; flags behind -- are passed on. A file is split anew by
each seed; a folder of official splits keeps its test rows. --few draws so many rows of each label from train, and then
nothing but these and the test rows is given. The interval of the difference is over test texts, each with the answers
that it got under every seed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from rows import paired_interval

from lasttoken.core.columns import UNNAMED
from lasttoken.data.files import Examples
from lasttoken.data.folders import read_splits
from lasttoken.data.label_tables import labels_of

DEMO = Path(str(resources.files("lasttoken") / "demo" / "messages.csv"))
BASELINES = ("tfidf-logreg", "char-ngrams")


def main() -> None:
    """Train on every data set with every seed, and print a line of a Markdown table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="name=file or name=folder; demo: the messages in the package")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--few", type=int, default=0, help="rows of each label in train; 0: all")
    parser.add_argument("--out", type=Path, help="append what each run gave as a line of JSON")
    parser.add_argument("--read", type=Path, help="print the table of such a file, and train nothing")
    own, passed_on = _divided(sys.argv[1:])
    arguments = parser.parse_args(own)
    print(
        "| data | runs | test rows | metric | lasttoken | words | characters | difference to the best | trained | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    if arguments.read:
        for runs in _recorded(arguments.read):
            print(_line(runs))
    for item in arguments.data:
        name, _, path = item.partition("=")
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        runs = [_run(name, path, seed, arguments.few, passed_on) for seed in seeds]
        if arguments.out:
            with arguments.out.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(run) + "\n" for run in runs)
        print(_line(runs), flush=True)


def _recorded(path: Path) -> list[list[dict[str, Any]]]:
    """The runs of a file that --out wrote, by data set and rows of each label."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for line in path.read_text("utf-8").splitlines():
        run = json.loads(line)
        found.setdefault((run["data"], run["few"]), []).append(run)
    return [sorted(runs, key=lambda run: int(run["seed"])) for _, runs in sorted(found.items())]


def _divided(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return list(arguments), []
    place = list(arguments).index("--")
    return list(arguments[:place]), list(arguments[place + 1 :])


def _run(name: str, path: str, seed: int, few: int, flags: Sequence[str]) -> dict[str, Any]:
    """One run of `lasttoken train`, and what its folder says."""
    with tempfile.TemporaryDirectory() as folder:
        data = [path or str(DEMO)]
        if few:
            data = _few(Path(path), Path(folder), few, seed)
        out = Path(folder) / "run"
        program = [sys.executable, "-c", "from lasttoken.cli.main import main; main()"]
        command = [*program, "train", *data, "--seed", str(seed), "--out", str(out), *flags]
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
        return {"data": name, "seed": seed, "few": few, "seconds": time.monotonic() - started, **_read(out)}


def _few(data: Path, folder: Path, few: int, seed: int) -> list[str]:
    """A file with `few` rows of each label drawn from train, and the test split of the data."""
    splits = read_splits(data, UNNAMED)
    if splits.test is None:
        raise SystemExit(f"--few needs official test rows, and {data} has none")
    labels = np.array(labels_of(splits.train))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    drawn = np.concatenate([shuffled[labels[shuffled] == label][:few] for label in np.unique(labels)])
    _write(folder / "few.csv", splits.train.take(np.sort(drawn).tolist()))
    _write(folder / "test.csv", splits.test)
    return [str(folder / "few.csv"), "--test", str(folder / "test.csv")]


def _write(path: Path, examples: Examples) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(zip(examples.texts, labels_of(examples), strict=True))


def _read(out: Path) -> dict[str, Any]:
    metrics = json.loads((out / "metrics.json").read_text("utf-8"))
    with (out / "predictions" / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    metric = "micro_f1" if metrics["multi_label"] else "accuracy"
    values = {"ours": metrics["splits"]["test"][metric]}
    values |= {name: metrics["baselines"][name]["test"][metric] for name in BASELINES}
    predicted = {"ours": "predicted", **{name: f"baseline {name}" for name in BASELINES}}
    right = {name: [int(row[column] == row["label"]) for row in rows] for name, column in predicted.items()}
    return {
        "metric": metric,
        "values": values,
        "right": right,
        "texts": [hashlib.blake2b(row["text"].encode(), digest_size=6).hexdigest() for row in rows],
        "verdict": metrics["verdict"],
        "ngrams": metrics["ngrams"] if metrics.get("ngrams", {}).get("kept") else None,
        "chosen": metrics.get("choice", {}).get("chosen"),
    }


def _line(runs: Sequence[dict[str, Any]]) -> str:
    name = f"{runs[0]['data']}, {few} a label" if (few := runs[0]["few"]) else runs[0]["data"]
    means = {each: statistics.mean(run["values"][each] for run in runs) for each in ("ours", *BASELINES)}
    spread = statistics.stdev(run["values"]["ours"] for run in runs) if len(runs) > 1 else 0.0
    best = max(BASELINES, key=lambda each: means[each])
    metric = runs[0]["metric"]
    kinds = [f"{run['chosen']['method']} {run['chosen']['depth']}" if run["chosen"] else "tail" for run in runs]
    weights = [run["ngrams"]["weight"] for run in runs if run["ngrams"]]
    blended = f", n-grams in {len(weights)} ({statistics.mean(weights):.2f})" if weights else ""
    seconds = statistics.median(run["seconds"] for run in runs)
    return (
        f"| {name} | {len(runs)} | {len(runs[0]['texts']):,} | {metric} | {_shown(means['ours'], metric)} "
        f"± {_shown(spread, metric)} | {_shown(means[BASELINES[0]], metric)} | {_shown(means[BASELINES[1]], metric)} | "
        f"{_difference(runs, best)} | {', '.join(sorted(set(kinds)))}{blended} | {seconds:.0f} |"
    )


def _difference(runs: Sequence[dict[str, Any]], best: str) -> str:
    """The mean difference to a baseline, with its 95 % interval."""
    if runs[0]["metric"] != "accuracy":
        difference = statistics.mean(run["values"]["ours"] - run["values"][best] for run in runs)
        return f"{difference:+.3f}"
    ours, theirs = (
        [{"test_rows": _numbers(run), "correct": run["right"][each]} for run in runs] for each in ("ours", best)
    )
    difference, low, high = paired_interval(ours, theirs)
    return f"{100 * difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


NUMBERS: dict[str, int] = {}  # of each test text, so that seeds which test the same text share its row


def _numbers(run: dict[str, Any]) -> list[int]:
    return [NUMBERS.setdefault(f"{run['data']} {text}", len(NUMBERS)) for text in run["texts"]]


def _shown(value: float, metric: str) -> str:
    return f"{100 * value:.1f}" if metric == "accuracy" else f"{value:.3f}"


if __name__ == "__main__":
    main()
