"""A training by the method of its settings, with the head that it starts from.

method linear ─► LinearTraining                       tail ─► Trainer, from a drawn or a linear head
                                                      tail, few rows ─► FoldedTail (folded.py)
"""

from __future__ import annotations

from lasttoken.classifier.classifier import Classifier
from lasttoken.core.device import CPU
from lasttoken.training.folded import FoldedTail, linear_heads, refits
from lasttoken.training.linear_training import LinearTraining, set_head
from lasttoken.training.loop import CHECKPOINT_EVERY_S, Hooks, Trainer, TrainingInputs, TrainingOutcome

Training = Trainer | LinearTraining | FoldedTail


def make_training(
    classifier: Classifier,
    inputs: TrainingInputs,
    hooks: Hooks | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
) -> Training:
    """The training of a classifier on "train" and "validation"."""
    settings = inputs.settings
    if settings.method == "linear":
        return LinearTraining(classifier, inputs, hooks)
    if inputs.device == CPU:
        classifier.pack_updated()
    if settings.start_head == "linear" and inputs.may_fold and refits(inputs.splits, settings):
        return FoldedTail(classifier, inputs, hooks)
    if settings.start_head == "linear":
        set_head(classifier, linear_heads(classifier, inputs, in_folds=False).parts[0])
    return Trainer(classifier, inputs, hooks, checkpoint_every_s)


def train_classifier(classifier: Classifier, inputs: TrainingInputs, hooks: Hooks | None = None) -> TrainingOutcome:
    """Train to the end without saving states.

    Raises:
        DivergedError: a loss is not finite.
    """
    return make_training(classifier, inputs, hooks).run()
