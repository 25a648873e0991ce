"""The predictions for the rows of a split, in a file beside its splits, so that two runs can be compared row by row.

splits/test.csv            text,label
predictions/test.csv       id,row,text,label,predicted,probability,probability of spam,…,baseline tfidf-logreg,…

The rows have the order of the split. `row` counts from 1; `id` exists if --id named a column. With up to ten labels
each has a column of probabilities. With several labels a text, they are joined in one cell as in the split, and the
probability is that of the most probable label.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lasttoken.core.storage import write_text
from lasttoken.data.files import Examples
from lasttoken.data.tables.cells import csv_line
from lasttoken.evaluation.baselines import Baseline
from lasttoken.runs.scored import Scored

FEW_LABELS = 10  # with more labels no columns of probabilities are written


def write_predictions(
    path: Path,
    examples: Examples,
    scored: Scored,
    baselines: Mapping[str, Baseline],
    split: str,
) -> None:
    """Write a row for each example: its text and label, the prediction, probabilities and the baselines' predictions.

    Raises:
        StorageError: no permission, or a full disk.
    """
    task = scored.task
    columns = {} if examples.ids is None else {"id": examples.ids}
    columns |= {
        "row": [str(row) for row in range(1, len(examples) + 1)],
        "text": examples.texts,
        "label": task.joined(scored.truth),
        "predicted": task.joined(scored.predicted),
        "probability": [f"{p:.6f}" for p in scored.answer_probs()],
    }
    if len(task.labels) <= FEW_LABELS:
        probs = np.exp(scored.log_probs.astype(np.float64))
        columns |= {
            f"probability of {label}": [f"{p:.6f}" for p in probs[:, label_id]]
            for label_id, label in enumerate(task.labels)
        }
    for name, baseline in baselines.items():
        if split in baseline.predicted:
            columns[f"baseline {name}"] = task.joined(baseline.predicted[split])
    lines = [tuple(columns), *zip(*columns.values(), strict=True)]
    write_text(path, "".join(map(csv_line, lines)))
