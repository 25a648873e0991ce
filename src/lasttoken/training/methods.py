"""A training by the method of its settings, with the head that it starts from.

method linear ─► LinearTraining                       tail ─► Trainer, from a drawn or a linear head
                                                      tail, few rows ─► FoldedTail (folded.py)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lasttoken.classifier.classifier import Classifier
from lasttoken.core.config import Settings
from lasttoken.core.device import Device
from lasttoken.training.folded import FoldedTail, linear_heads, refits
from lasttoken.training.linear_training import LinearTraining, set_head
from lasttoken.training.loop import CHECKPOINT_EVERY_S, Hooks, SplitFeatures, Trainer, TrainingOutcome

Training = Trainer | LinearTraining | FoldedTail


def make_training(
    classifier: Classifier,
    splits: Mapping[str, SplitFeatures],
    settings: Settings,
    device: Device,
    hooks: Hooks | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    label_counts: NDArray[np.int64] | None = None,
    may_fold: bool = False,
) -> Training:
    """The training of a classifier on "train" and "validation".

    Args:
        label_counts: [K], see `Trainer`.
        may_fold: whether validation was cut from the same rows as train, see held_out.py.
    """
    if settings.method == "linear":
        return LinearTraining(classifier, splits, settings, device, hooks, label_counts, may_fold)
    if settings.start_head == "linear" and may_fold and refits(splits, settings):
        return FoldedTail(classifier, splits, settings, device, hooks, label_counts)
    if settings.start_head == "linear":
        set_head(classifier, linear_heads(classifier, splits, settings, device, label_counts, in_folds=False).parts[0])
    return Trainer(classifier, splits, settings, device, hooks, checkpoint_every_s, label_counts)


def train_classifier(
    classifier: Classifier,
    splits: Mapping[str, SplitFeatures],
    settings: Settings,
    device: Device,
    hooks: Hooks | None = None,
    label_counts: NDArray[np.int64] | None = None,
    may_fold: bool = False,
) -> TrainingOutcome:
    """Train to the end without saving states.

    Raises:
        DivergedError: a loss is not finite.
    """
    training = make_training(classifier, splits, settings, device, hooks, label_counts=label_counts, may_fold=may_fold)
    return training.run()
