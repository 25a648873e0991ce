"""Undersampling: at random, as many rows of each label as the rarest label has."""

from __future__ import annotations

import numpy as np

from lasttoken.data.files import Examples
from lasttoken.data.label_tables import number_labels


def undersample(examples: Examples, seed: int) -> Examples:
    """Keep, at random, as many rows of each label as the rarest has; the order is kept.

    Raises:
        DataError: one label only.
    """
    names, label_ids = number_labels(examples)
    n_each = int(np.bincount(label_ids).min())
    rng = np.random.default_rng(seed)
    kept = [rng.choice(np.flatnonzero(label_ids == label_id), n_each, replace=False) for label_id in range(len(names))]
    return examples.take(np.sort(np.concatenate(kept)).tolist())
