"""Steps that several processes compute together: each has a part of every batch, and the gradients are summed.

    rows of a batch ─► by length, dealt out ─► rank 0: rows 0, n, 2n, …    its loss · its weight · n ─┐
                                               rank 1: rows 1, n + 1, …    its loss · its weight · n ─┴► mean over ranks

The weight of a part is that of its rows in the mean loss of the whole batch, so the update is that of one process,
whatever the sizes of the parts. A part may be empty: then a row counts with weight 0. torch's DistributedDataParallel
divides the summed gradients by n; clipping and AdamW then do the same in every process.

Rank 0 has the loop (loop.py) and says before each batch what comes; the others follow (helper.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lasttoken.backbone.packing import Packing
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.encoding import batches_by_length
from lasttoken.core.config import Settings
from lasttoken.core.device import Device
from lasttoken.core.team import Message, Team
from lasttoken.training.accumulation import MicroBatch
from lasttoken.training.adamw import Moments
from lasttoken.training.feature_cache import FeatureFile
from lasttoken.training.features import FeatureSource, LiveFeatures, StoredFeatures
from lasttoken.training.shards import Shards, keeps_shards
from lasttoken.training.shared_trunk import SharedTrunk, encoded_of
from lasttoken.training.split_features import TAIL_BUDGETS, SplitFeatures, tail_logits
from lasttoken.training.updates import Updates

CHUNK_BYTES = 64_000_000  # of features that are sent at a time
SETTINGS = ("weight_decay", "clip_norm", "label_smoothing")  # that a step depends on

Arrays = dict[str, NDArray[Any]]


class _Tail(nn.Module):
    """A classifier's tail as a module of its own, with the parameters that train and no others."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.trained = nn.ParameterList(classifier.trained().values())
        self._compute = classifier.tail

    def forward(self, features: Tensor, packing: Packing) -> Tensor:
        """See `Classifier.tail`."""
        return self._compute(features, packing)


class SharedUpdates(Updates):
    """One process's part of the steps; all processes call the same methods in the same order."""

    def __init__(
        self,
        team: Team,
        classifier: Classifier,
        splits: Mapping[str, SplitFeatures],
        settings: Settings,
        device: Device,
        label_weights: Tensor | None = None,
    ) -> None:
        super().__init__(classifier, splits, settings, device, label_weights)
        self.team = team
        self._module: DistributedDataParallel | None = None
        self._shards: Shards | None = None

    def start(self, shards: bool) -> None:
        """Connect the gradients; all processes start with rank 0's weights. `shards`: keep them in parts."""
        with self.team.talking():
            if shards:
                for parameter in self.parameters.values():
                    torch.distributed.broadcast(parameter.detach(), 0, group=self.team.group)
                self._shards = Shards(self.team, self.classifier, self.optimizer, self.device)
                self.parameters, self.optimizer = self._shards.parameters, self._shards.optimizer
            else:  # it sends the weights by itself
                self._module = DistributedDataParallel(_Tail(self.classifier), process_group=self.team.group)
        self.tail = self._shards.classifier.tail if self._shards else self._module or self.classifier.tail

    def stop(self) -> None:
        """Compute alone again."""
        if self._shards is not None:
            self._shards.release()
        self._module, self._shards, self.tail = None, None, self.classifier.tail

    def step(self, batch: MicroBatch, rate: float) -> float:
        """See `Updates.add`: the loss is that of the whole batch."""
        if batch.starts:
            self.optimizer.zero_grad()
        rows, weight = self._part(batch.rows)
        with self._summing(batch.updates):
            loss = self._loss(rows)
            value = float(self.team.sum([loss.item() * weight])[0])
            if not math.isfinite(value):
                return value
            with self.team.talking():
                (loss * (batch.share * weight * self.team.size)).backward()  # type: ignore[no-untyped-call]
        if batch.updates:
            with self.team.talking():  # clipping sums over shards
                self._update(rate)
        return value

    def _summing(self, sums: bool) -> AbstractContextManager[None]:
        """The context of a forward and a backward pass; `sums`: an update follows, which needs all gradients."""
        if self._shards is not None:
            self._shards.sums_gradients(sums)
        elif not sums:
            assert self._module is not None
            return self._module.no_sync()
        return nullcontext()

    def _part(self, rows: list[int]) -> tuple[list[int], float]:
        """This process's rows of a batch, and their weight in its mean loss."""
        lengths = self.split.source.encoded.lengths[rows]
        by_length = np.asarray(rows)[np.argsort(-lengths, kind="stable")]
        own: list[int] = by_length[self.team.rank.number :: self.team.size].tolist()
        if not own:
            return by_length[:1].tolist(), 0.0
        return own, self.weight_of(own) / self.weight_of(rows)

    def logits_together(self, name: str, rows: list[int]) -> NDArray[np.float32]:
        """Logits [N, K] of rows of a split; each process computes some of the batches of one process."""
        source = self.splits[name].source
        if self._shards is not None:
            with self.team.talking():
                return self.team.sum(self._logits_of_shards(source, np.asarray(rows, dtype=np.int64)))
        part = slice(self.team.rank.number, None, self.team.size)
        return self.team.sum(tail_logits(self.classifier, source, self.device, rows, part))

    @torch.no_grad()
    def _logits_of_shards(self, source: FeatureSource, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """This process's logits, zeros elsewhere; all gather each block at the same time, so all compute as often."""
        logits = np.zeros((len(rows), len(self.classifier.config.labels)), dtype=np.float32)
        batches = batches_by_length(source.encoded.lengths[rows], TAIL_BUDGETS * self.device.token_budget)
        for first in range(0, len(batches), self.team.size):
            number = first + self.team.rank.number
            places = batches[min(number, len(batches) - 1)]
            with self.device.autocast():
                block = self.tail(*source.batch(rows[places].tolist())).float().cpu().numpy()
            if number < len(batches):
                logits[places] = block
        return logits

    def collect_together(self) -> None:
        """See `Updates.collect`."""
        if self._shards is not None:
            with self.team.talking():
                self._shards.collect()


class LeadingUpdates(SharedUpdates):
    """Rank 0's part, and its messages to the others."""

    def __init__(self, shared: SharedTrunk, *inputs: Any) -> None:
        """`shared`: the classifier of the session; the other arguments are those of Updates."""
        super().__init__(shared.team, *inputs)
        self.number, self._is_begun = shared.number, False

    def begin(self) -> None:
        """See `Updates`."""
        shards = keeps_shards(self.settings, self.classifier, self.device)
        with self.team.work():
            self.team.send("train", {**self._facts(), "shards": shards}, self._arrays())
            for split in self.splits.values():
                _offer(self.team, split.source)
            self.start(shards)
        self._is_begun = True

    def end(self) -> None:
        """See `Updates`; the processes stay, for another training."""
        if self._is_begun and self.team.is_open:
            self.collect()
            self.team.send("end")
        self._is_begun = False
        self.stop()

    def collect(self) -> None:
        """See `Updates`."""
        if self._shards is not None:
            with self.team.work():
                self.team.send("collect")
                self.collect_together()

    def add(self, batch: MicroBatch, rate: float) -> float:
        """See `Updates`."""
        facts = {"share": batch.share, "starts": batch.starts, "updates": batch.updates, "rate": rate}
        with self.team.work():
            self.team.send("step", facts, {"rows": np.asarray(batch.rows, dtype=np.int64)})
            return self.step(batch, rate)

    def logits(self, source: FeatureSource, rows: list[int] | None) -> NDArray[np.float32]:
        """See `Updates`."""
        name = next((name for name, split in self.splits.items() if split.source is source), None)
        if name is None or not self._is_begun:
            return super().logits(source, rows)
        rows = list(range(len(self.splits[name]))) if rows is None else rows
        with self.team.work():
            self.team.send("logits", {"split": name}, {"rows": np.asarray(rows, dtype=np.int64)})
            return self.logits_together(name, rows)

    def _facts(self) -> dict[str, Any]:
        return {
            "classifier": self.number,
            "settings": {name: getattr(self.settings, name) for name in SETTINGS},
            "checkpoints": self.classifier.checkpoints_activations,
            "sources": {name: _describe(split.source) for name, split in self.splits.items()},
        }

    def _arrays(self) -> Arrays:
        arrays: Arrays = {"truth": np.asarray(self.split.truth)}
        for name, split in self.splits.items():
            encoded = split.source.encoded
            arrays |= {f"token_ids {name}": encoded.token_ids, f"lengths {name}": encoded.lengths}
        if self.split.weights is not None:
            arrays["weights"] = self.split.weights
        if self.label_weights is not None:
            arrays["label_weights"] = self.label_weights.cpu().numpy()
        for name, moments in self.optimizer.moments.items():
            arrays |= {f"{part} {name}": tensor.cpu().numpy() for part, tensor in vars(moments).items()}
        return arrays


def followed(team: Team, message: Message, classifier: Classifier, device: Device) -> SharedUpdates:
    """Another process's part of the training that a message of `LeadingUpdates` begins."""
    facts, arrays = message.facts, message.arrays
    splits = {}
    for name, described in facts["sources"].items():
        encoded = encoded_of(arrays[f"token_ids {name}"], arrays[f"lengths {name}"])
        source = _accept(team, described, LiveFeatures(encoded, classifier, device))
        truth = arrays["truth"] if name == "train" else np.empty(len(encoded), dtype=np.int64)
        splits[name] = SplitFeatures(source, truth, arrays.get("weights") if name == "train" else None)
    weights = arrays.get("label_weights")
    updates = SharedUpdates(
        team,
        classifier,
        splits,
        Settings(**facts["settings"]),
        device,
        None if weights is None else torch.from_numpy(weights).to(device.torch_device),
    )
    classifier.checkpoints_activations = facts["checkpoints"]
    for name in updates.parameters:
        if f"updates {name}" in arrays:
            parts = {part: torch.from_numpy(arrays[f"{part} {name}"]) for part in Moments.__dataclass_fields__}
            on_device = {part: tensor.to(device.torch_device) for part, tensor in parts.items()}
            updates.optimizer.moments[name] = Moments(**on_device)
    return updates


def _describe(source: FeatureSource) -> dict[str, Any] | None:
    """What another process needs to read the features of a split; None: it computes them."""
    if not isinstance(source, StoredFeatures):
        return None
    array = source.array
    if isinstance(array, FeatureFile):
        return {"path": str(array.path), "shape": list(array.shape), "dtype": "<f4"}
    return {"path": None, "shape": list(array.shape), "dtype": array.dtype.str}


def _offer(team: Team, source: FeatureSource) -> None:
    """Send the features of a split to processes that do not see their file."""
    if not isinstance(source, StoredFeatures) or team.all_agree(isinstance(source.array, FeatureFile)):
        return
    array = source.array
    for first, end in _chunks(array.shape, 8):
        rows = array.rows([(first, end)]) if isinstance(array, FeatureFile) else array[first:end]
        team.broadcast(np.ascontiguousarray(rows))


def _accept(team: Team, described: dict[str, Any] | None, live: LiveFeatures) -> FeatureSource:
    """The features that `_offer` offers."""
    if described is None:
        return live
    shape, path = tuple(described["shape"]), described["path"]
    found: FeatureFile | NDArray[Any] | None = None
    if path is not None:
        found = FeatureFile.opened(path, shape)
    if not team.all_agree(found is not None):
        found = np.empty(shape, dtype=described["dtype"])
        for first, end in _chunks(shape, 8):
            team.broadcast(found[first:end])
    assert found is not None
    return StoredFeatures(live.encoded, found, live.classifier.keeps_tokens, live.device.torch_device)


def _chunks(shape: tuple[int, ...], n_bytes: int) -> list[tuple[int, int]]:
    """Ranges of rows of an array of numbers of so many bytes, which are sent one after the other."""
    n_rows = max(CHUNK_BYTES // (shape[1] * n_bytes), 1)
    return [(first, min(first + n_rows, shape[0])) for first in range(0, shape[0], n_rows)]
