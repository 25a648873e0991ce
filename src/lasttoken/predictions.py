"""What a run answered for the rows of a split, as a file beside its splits: two runs can be compared row by row.

splits/test.csv            text,label
predictions/test.csv       label,predicted,probability,baseline tfidf-logreg,…      the same rows, in the same order

Where a text has any number of labels, they stand joined in one cell, as in the split, and the probability is that of
the likeliest label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lasttoken.data.folders import csv_line
from lasttoken.evaluation.baselines import Baseline
from lasttoken.evaluation.figures import in_words
from lasttoken.judging import Scored
from lasttoken.storage import write_text


def write_predictions(
    path: Path,
    labels: Sequence[str],
    scored: Scored,
    baselines: Mapping[str, Baseline],
    split: str,
    separator: str | None = None,
) -> None:
    """Write a row for each row of the split: truth, answer, the answer's probability, the baselines' answers.

    Raises:
        StorageError: no permission, or a full disk.
    """
    columns = {
        "label": in_words(scored.truth, labels, separator),
        "predicted": in_words(scored.predicted, labels, separator),
        "probability": [f"{p:.6f}" for p in scored.answer_probs()],
    }
    for name, baseline in baselines.items():
        if split in baseline.predicted:
            columns[f"baseline {name}"] = in_words(baseline.predicted[split], labels, separator)
    lines = [tuple(columns), *zip(*columns.values(), strict=True)]
    write_text(path, "".join(map(csv_line, lines)))
