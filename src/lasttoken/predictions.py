"""What a run answered for the rows of a split, as a file beside its splits: two runs can be compared row by row.

splits/test.csv            text,label
predictions/test.csv       label,predicted,probability,baseline tfidf-logreg,…      the same rows, in the same order
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lasttoken.data.folders import csv_line
from lasttoken.evaluation.baselines import Baseline
from lasttoken.judging import Scored
from lasttoken.storage import write_text


def write_predictions(
    path: Path, labels: Sequence[str], scored: Scored, baselines: Mapping[str, Baseline], split: str
) -> None:
    """Write a row for each row of the split: truth, answer, the answer's probability, the baselines' answers.

    Raises:
        StorageError: no permission, or a full disk.
    """
    rows = np.arange(len(scored.label_ids))
    columns = {
        "label": [labels[label_id] for label_id in scored.label_ids],
        "predicted": [labels[label_id] for label_id in scored.predicted],
        "probability": [f"{p:.6f}" for p in np.exp(scored.log_probs[rows, scored.predicted])],
    }
    for name, baseline in baselines.items():
        if split in baseline.predicted:
            columns[f"baseline {name}"] = [labels[label_id] for label_id in baseline.predicted[split]]
    lines = [tuple(columns), *zip(*columns.values(), strict=True)]
    write_text(path, "".join(map(csv_line, lines)))
