"""The features of a split beside its truth, and the logits that a classifier's tail gives for features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.encoding import Rows, batches_by_length
from lasttoken.core.device import Device
from lasttoken.evaluation.tasks.task import Truth
from lasttoken.training.features import FeatureSource

TAIL_BUDGETS = 8  # token budgets in a batch of the tail, which costs less than the trunk
ALL = slice(None)


@dataclass(frozen=True)
class SplitFeatures:
    """The features of a split and its truth: label ids [N], or whether each row has each label [N, K]."""

    source: FeatureSource
    truth: Truth
    weights: NDArray[np.float32] | None = None  # of each row in the loss, [N]; None: all rows count alike

    def __len__(self) -> int:
        return len(self.truth)


def tail_logits(
    classifier: Classifier, source: FeatureSource, device: Device, rows: list[int] | None = None, part: slice = ALL
) -> NDArray[np.float32]:
    """Logits [N, K] of these rows of a split (None: all), in their order; batches have texts of similar length.

    `part`: the batches that are computed; the logits of others are zero.
    """
    selected = np.arange(len(source.encoded)) if rows is None else np.asarray(rows, dtype=np.int64)

    def compute(places: Rows) -> NDArray[np.float32]:
        return classifier.tail(*source.batch(selected[places].tolist())).float().cpu().numpy()

    logits = np.zeros((len(selected), len(classifier.config.labels)), dtype=np.float32)
    lengths, budget = source.encoded.lengths[selected], TAIL_BUDGETS * device.token_budget
    for places, batch in device.run(compute, batches_by_length(lengths, budget)[part]):
        logits[places] = batch
    return logits
