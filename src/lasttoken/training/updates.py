"""The part of a step that computes: the gradient of a batch, and the update of the weights.

    rows ─► features ─► tail ─► loss · share ─► gradients      the last batch of a step: clipping ─► AdamW

loop.py decides which rows, which share and which rate. On several processes shared_updates.py does the same, with a
part of the rows in each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.backbone.packing import Packing
from lasttoken.classifier.classifier import Classifier
from lasttoken.core.config import Settings
from lasttoken.core.device import Device
from lasttoken.training.accumulation import MicroBatch
from lasttoken.training.adamw import AdamW
from lasttoken.training.features import FeatureSource
from lasttoken.training.split_features import SplitFeatures, tail_logits


class Updates:
    """The trained weights of a classifier and their optimizer, in one process."""

    def __init__(
        self,
        classifier: Classifier,
        splits: Mapping[str, SplitFeatures],
        settings: Settings,
        device: Device,
        label_weights: Tensor | None = None,
    ) -> None:
        """`splits` has at least train; `label_weights` [K] are those of balance.py, where labels are weighted."""
        self.classifier, self.splits, self.settings, self.device = classifier, splits, settings, device
        self.split = splits["train"]
        self.task = classifier.config.task
        self.label_weights = None if label_weights is None else label_weights.to(classifier.head.weight.dtype)
        self.tail: Callable[[Tensor, Packing], Tensor] = classifier.tail
        self.parameters = classifier.trained()
        self.optimizer = AdamW(self.parameters, settings.weight_decay)

    def begin(self) -> None:
        """Called before the first step, when weights and optimizer are in the state that the training starts from."""

    def end(self) -> None:
        """Called after the last step, also after an error."""

    def add(self, batch: MicroBatch, rate: float) -> float:
        """Add the gradient of a batch, and update the weights where its group ends. Returns its mean loss.

        A loss that is not finite changes nothing.
        """
        if batch.starts:
            self.optimizer.zero_grad()
        loss = self._loss(batch.rows)
        value = loss.item()
        if not math.isfinite(value):
            return value
        (loss if batch.share == 1 else loss * batch.share).backward()  # type: ignore[no-untyped-call]
        if batch.updates:
            self._update(rate)
        return value

    def _loss(self, rows: list[int]) -> Tensor:
        features, packing = self.split.source.batch(rows)
        device = self.device.torch_device
        truth = torch.from_numpy(self.split.truth[rows]).to(device)
        with self.device.autocast():
            logits = self.tail(features, packing)
        weights = self.split.weights
        row_weights = None if weights is None else torch.from_numpy(weights[rows]).to(device)
        return self.task.loss(logits, truth, self.label_weights, row_weights, self.settings.label_smoothing)

    def _update(self, rate: float) -> None:
        if self.settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.clip_norm)
        self.optimizer.step(rate)

    def logits(self, source: FeatureSource, rows: list[int] | None) -> NDArray[np.float32]:
        """Logits [N, K] of these rows of a split (None: all), in their order."""
        return tail_logits(self.classifier, source, self.device, rows)

    def collect(self) -> None:
        """Called before weights and moments are read; puts them together where they are kept in parts (shards.py)."""

    def weight_of(self, rows: list[int]) -> float:
        """What these rows weigh in the mean of a loss."""
        if self.label_weights is None or self.split.weights is not None:
            return len(rows)
        return float(self.label_weights[torch.from_numpy(self.split.truth[rows]).to(self.label_weights.device)].sum())


class MakeUpdates(Protocol):
    """What makes the updates of a training."""

    def __call__(
        self,
        classifier: Classifier,
        splits: Mapping[str, SplitFeatures],
        settings: Settings,
        device: Device,
        label_weights: Tensor | None = None,
    ) -> Updates:
        """See Updates."""
