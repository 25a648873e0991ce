"""What it saves that the fits of a process share the trunk's features: a grid search with and without.

    python benchmarks/sklearn_sharing.py SMSSpamCollection --rows 2000

The search has 4 settings and 3 folds, and a last fit: 13 fits, 12 scorings. Without sharing the features are dropped
before every fit and every scoring. The two sides in turn, in one process.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from sklearn.model_selection import GridSearchCV

from lasttoken import sklearn as ours
from lasttoken.core.default_backbone import default_backbone
from lasttoken.data.files import read_examples
from lasttoken.sklearn import LastTokenClassifier
from lasttoken.training.shared import SharedFeatures

GRID = {"epochs": [1, 2], "learning_rate": [1e-4, 5e-4]}


class Forgetful(LastTokenClassifier):
    """The same, with features for each call alone."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LastTokenClassifier:  # noqa: N803
        """See LastTokenClassifier."""
        ours.FEATURES = SharedFeatures()
        return super().fit(X, y, sample_weight)

    def predict_log_proba(self, X: Any) -> Any:  # noqa: N803
        """See LastTokenClassifier."""
        ours.FEATURES = SharedFeatures()
        return super().predict_log_proba(X)


def main() -> None:
    """Print a row for each depth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default=default_backbone())
    parser.add_argument("--rows", type=int, default=2000)
    args = parser.parse_args()
    examples = read_examples(args.data)
    texts, labels = examples.texts[: args.rows], (examples.labels or [])[: args.rows]
    print("| train_blocks | shared, s | not shared, s | times faster | best score, both |\n|---|---|---|---|---|")
    for train_blocks in ("head", "1", "2"):
        seconds, scores = [], []
        for kind in (LastTokenClassifier, Forgetful):
            ours.FEATURES = SharedFeatures()
            search = GridSearchCV(kind(args.backbone, train_blocks=train_blocks, offline=True), GRID, cv=3)
            started = time.perf_counter()
            search.fit(texts, labels)
            seconds.append(time.perf_counter() - started)
            scores.append(f"{search.best_score_:.4f}")
        a, b = seconds
        print(f"| {train_blocks} | {a:.1f} | {b:.1f} | {b / a:.2f} | {', '.join(scores)} |", flush=True)


if __name__ == "__main__":
    main()
