"""How long `lasttoken audit` takes, how much memory, and how many of the planted near-duplicates it finds.

    OMP_NUM_THREADS=1 python benchmarks/audit.py --rows 1000000
    OMP_NUM_THREADS=1 python benchmarks/audit.py --rows 4000 --brute-force

Rows are words of a Zipf vocabulary, about 100 characters each. A tenth repeats an earlier row exactly, a tenth after
changes of case and digits, a tenth with one word replaced by another (Jaccard similarity about 0.8, so that not all of
these are near-duplicates: which are is counted). Linux and macOS; peak memory is the child's.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np

from lasttoken.data.splitting.near_duplicates import (
    ENOUGH_CHARACTERS,
    THRESHOLD,
    find_duplicates,
    jaccard_similarity,
    normalise,
)

N_WORDS = 50_000
PLANTED = 0.1  # of the rows, for each kind


def vocabulary(rng: np.random.Generator) -> list[str]:
    """Words of 2 to 9 letters."""
    letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
    weight = 1 / (np.arange(len(letters)) + 3)
    return ["".join(rng.choice(letters, size, p=weight / weight.sum())) for size in rng.integers(2, 10, N_WORDS)]


def make_rows(n: int, seed: int) -> tuple[list[str], list[tuple[str, int, int]]]:
    """n texts, and what was planted: (kind, row, the row it repeats)."""
    rng = np.random.default_rng(seed)
    words = vocabulary(rng)
    chance = 1 / (np.arange(N_WORDS) + 2.7)
    edges = np.cumsum(chance / chance.sum())
    texts: list[str] = []
    planted = []
    for row, draw in enumerate(rng.random(n).tolist()):
        ids = np.minimum(np.searchsorted(edges, rng.random(16)), N_WORDS - 1)
        chosen = [words[at] for at in ids.tolist()]
        kind = (
            "exact" if draw < PLANTED else "normalised" if draw < 2 * PLANTED else "near" if draw < 3 * PLANTED else ""
        )
        if kind and row:
            earlier = int(rng.integers(row))
            texts.append(_changed(texts[earlier], kind, chosen[0], rng))
            planted.append((kind, row, earlier))
        else:
            texts.append(" ".join([*chosen, str(rng.integers(1000))]))
    return texts, planted


def _changed(text: str, kind: str, word: str, rng: np.random.Generator) -> str:
    parts = text.split(" ")
    if kind == "normalised":
        return " ".join([*parts[:-1], "7", "!"]).upper() if rng.random() < 0.5 else text.title() + "."
    if kind == "near":
        parts[int(rng.integers(len(parts) - 1))] = word
    return " ".join(parts)


def run_audit(texts: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and peak MB of the command on one file of two labels."""
    path = folder / "rows.csv"
    path.write_text("text,label\n" + "".join(f"{text},{'ab'[len(text) % 2]}\n" for text in texts), "utf-8")
    command = [sys.executable, "-c", "from lasttoken.cli.main import main; main()", "audit", str(path), "--json"]
    started = time.perf_counter()
    with (folder / "audit.json").open("w", encoding="utf-8") as out:
        subprocess.run(command, check=True, stdout=out)
    seconds = time.perf_counter() - started
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit


def recall(texts: list[str], planted: list[tuple[str, int, int]]) -> dict[str, str]:
    """Of what was planted and truly is alike, how much is found, by kind."""
    found = find_duplicates(texts).by_kind()
    counts: dict[str, list[int]] = {}
    for kind, row, earlier in planted:
        one, other = normalise(texts[row]), normalise(texts[earlier])
        if min(len(one), len(other)) >= ENOUGH_CHARACTERS and (
            kind != "near" or jaccard_similarity(one, other) >= THRESHOLD
        ):
            count = counts.setdefault(kind, [0, 0])
            count[0] += bool(found["near"][row] == found["near"][earlier])
            count[1] += 1
    return {kind: f"{n_found:,} of {n:,}" for kind, (n_found, n) in counts.items()}


def brute_force(texts: list[str]) -> dict[str, float]:
    """Recall and precision of pairs of one component; in truth, those of every pair at the threshold, closed."""
    ids = find_duplicates(texts).near
    keys = [normalise(text) for text in texts]
    parent = list(range(len(texts)))

    def top(node: int) -> int:
        while parent[node] != node:
            node = parent[node]
        return node

    sets = [{key[at : at + 5] for at in range(len(key) - 4)} for key in keys]
    for one, other in combinations(range(len(texts)), 2):
        n_shared = len(sets[one] & sets[other])
        if n_shared >= THRESHOLD * (len(sets[one]) + len(sets[other]) - n_shared):
            parent[max(top(one), top(other))] = min(top(one), top(other))
    truth = np.array([top(row) for row in range(len(texts))])
    n_both = _pairs(ids * len(texts) + truth)
    return {"recall": n_both / max(_pairs(truth), 1), "precision": n_both / max(_pairs(ids), 1)}


def _pairs(ids: np.ndarray[tuple[int, ...], np.dtype[np.intp]]) -> int:
    n = np.unique(ids, return_counts=True)[1]
    return int((n * (n - 1) // 2).sum())


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--brute-force", action="store_true", help="compare every pair (some thousand rows)")
    asked = parser.parse_args()
    texts, planted = make_rows(asked.rows, asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        seconds, peak_mb = run_audit(texts, Path(folder))
    result = {
        "rows": asked.rows,
        "characters": sum(map(len, texts)) / len(texts),
        "audit_s": seconds,
        "peak_mb": peak_mb,
    }
    line = {**result, "found": recall(texts, planted), "machine": platform.platform()}
    print(json.dumps({**line, **(brute_force(texts) if asked.brute_force else {})}))


if __name__ == "__main__":
    main()
