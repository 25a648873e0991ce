"""The columns that scoring adds to rows."""

from __future__ import annotations

import numpy as np
import pytest
from miniature import classifier_of, random_encoded, random_gpt

from lasttoken.bulk.answers import score_rows


@pytest.mark.parametrize(("n_labels", "top_k", "n_written"), [(3, None, 3), (11, None, 5), (11, 2, 2), (3, 9, 3)])
def test_all_of_few_probabilities_are_written_and_the_largest_of_many(
    n_labels: int, top_k: int | None, n_written: int
) -> None:
    labels = tuple(f"label {label_id}" for label_id in range(n_labels))
    config = classifier_of(random_gpt(), labels=labels).config
    logits = np.random.default_rng(1).normal(size=(4, n_labels)).astype(np.float32)
    log_probs = config.task.log_probs(logits)
    rows = score_rows(log_probs, random_encoded(4), config, top_k)
    assert rows.labels == [labels[label_id] for label_id in logits.argmax(1)]
    for label, score, probs, row in zip(rows.labels, rows.scores, rows.probs, log_probs, strict=True):
        assert len(probs) == n_written
        assert next(iter(probs)) == label
        assert list(probs.values()) == sorted(probs.values(), reverse=True)
        assert score == round(float(np.exp(row.astype(np.float64)).max()), 6) == max(probs.values())
    assert rows.truncated == [False] * 4
