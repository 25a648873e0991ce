"""How many planted label errors `lasttoken suspects` finds, beside the same ranking by a bag of words.

    OMP_NUM_THREADS=1 python benchmarks/suspects.py sms=SMSSpamCollection trec=trec/train.csv

5 % of the labels are flipped to another of the data's labels at random, by each of three seeds. Both models give
out-of-fold probabilities on the same folds and are ranked by the same rule. At as many rows as were flipped, precision
and recall are one number; recall at twice as many is told too. Labels that are wrong in the data itself count as no
errors, so 100 % is out of reach.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from lasttoken.core.default_backbone import default_backbone
from lasttoken.core.progress import Reporter
from lasttoken.core.resolve import resolve
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.frames import from_lists
from lasttoken.data.label_tables import label_names, labels_of, truth_of
from lasttoken.data.splitting.cutting import cut_folds
from lasttoken.data.tables.cells import csv_line
from lasttoken.evaluation.baselines import word_ngrams
from lasttoken.evaluation.label_errors import rank_suspects
from lasttoken.evaluation.linear_models import C_EXACT
from lasttoken.runs.label_errors import find_suspects

N_FOLDS = 5


def flipped(examples: Examples, share: float, seed: int) -> tuple[Examples, NDArray[np.int64]]:
    """The examples with a share of their labels changed, and which rows were."""
    rng = np.random.default_rng(seed)
    names = label_names(examples)
    labels = list(labels_of(examples))
    rows = rng.choice(len(examples), round(share * len(examples)), replace=False)
    for row in rows.tolist():
        labels[row] = rng.choice([name for name in names if name != labels[row]])
    return from_lists(examples.texts, labels), rows


def by_words(examples: Examples, seed: int) -> list[int]:
    """Rows ranked by a bag of words' out-of-fold probabilities."""
    names = label_names(examples)
    label_ids = np.asarray(truth_of(examples, names), dtype=np.int64)
    log_probs = np.empty((len(examples), len(names)), dtype=np.float32)
    for held_out in cut_folds(examples, N_FOLDS, seed).sides:
        rest = np.setdiff1d(np.arange(len(examples)), held_out)
        vectorizer = word_ngrams()
        features = vectorizer.fit_transform([examples.texts[row] for row in rest])
        linear = LogisticRegression(C=C_EXACT, max_iter=300).fit(features, label_ids[rest])
        log_probs[held_out] = linear.predict_log_proba(vectorizer.transform([examples.texts[row] for row in held_out]))
    found: list[int] = rank_suspects(log_probs, label_ids).order.tolist()
    return found


def by_lasttoken(examples: Examples, backbone: str, epochs: int | None, seed: int) -> list[int]:
    """Rows ranked as the command ranks them, from a file as it reads it."""
    settings = resolve("default", {"backbone": backbone, "epochs": epochs, "seed": seed, "text": ["text"]})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flipped.csv"
        rows = zip(examples.texts, labels_of(examples), strict=True)
        path.write_text("".join(map(csv_line, [("text", "label"), *rows])), "utf-8")
        ranked, _ = find_suspects(path, settings, N_FOLDS, offline=True, reporter=Reporter())
    return [one.row - 1 for one in ranked]


def main() -> None:
    """Print a table: a row for each data set and flip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="name=FILE")
    parser.add_argument("--backbone", default=default_backbone())
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--flips", type=int, default=3, help="seeds of the flips")
    args = parser.parse_args()
    print("| data | flips | flipped | lasttoken, precision = recall | recall at twice as many | words | words, twice |")
    print("|---|---|---|---|---|---|---|")
    for name, _, path in (one.partition("=") for one in args.data):
        examples = read_examples(path)
        for seed in range(1, args.flips + 1):
            wrong, rows = flipped(examples, args.share, seed)
            n, planted = len(rows), set(rows.tolist())
            cells = [
                f"{len(planted & set(ranked[:most])) / n:.3f}"
                for ranked in (by_lasttoken(wrong, args.backbone, args.epochs, 123), by_words(wrong, 123))
                for most in (n, 2 * n)
            ]
            print(f"| {name} | {seed} | {n} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
