"""The features of texts: the trunk's output, which is computed once per text.

    split ──► in the cache?  ── yes ─► read batch by batch
                  │ no
                  └─► trunk, by length, to a token budget ─► cache, or memory

Features that exceed the cache's limit or the disk are not kept: the trunk then runs for every batch, and the result is
the same up to rounding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.backbone.packing import Packing
from lasttoken.backbone.weights import bytes_of
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.encoding import Encoded
from lasttoken.core.device import CPU, Device
from lasttoken.core.errors import StorageError
from lasttoken.core.machine import memory_bytes
from lasttoken.training.feature_cache import FeatureCache, FeatureFile, entry_key
from lasttoken.training.shared_trunk import Progress, SharedTrunk, TrunkWork

MEMORY_FRACTION = 0.5  # of the machine's memory that the features of a split may take


class FeatureSource(Protocol):
    """The features of a split."""

    @property
    def encoded(self) -> Encoded:
        """The split's token ids."""

    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Packing]:
        """The features of these rows, in their order: [n_tokens, C] packed, or one vector a text if the trunk pools."""


@dataclass(frozen=True)
class StoredFeatures:
    """Features in memory or in the cache: [n_tokens, C], or one vector a text."""

    encoded: Encoded
    array: NDArray[np.float32] | FeatureFile
    keeps_tokens: bool
    device: torch.device

    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Packing]:
        """See FeatureSource."""
        packing = Packing(self.encoded.lengths[list(rows)].tolist(), self.device)
        if isinstance(self.array, FeatureFile):
            block = self.array.rows(self._spans(rows))
        elif self.keeps_tokens:
            block = np.concatenate([self.array[first:end] for first, end in self._spans(rows)])
        else:
            block = self.array[list(rows)]
        return torch.from_numpy(block).to(self.device), packing

    def _spans(self, rows: Sequence[int]) -> list[tuple[int, int]]:
        """The range of feature rows (first, end) of each text."""
        if not self.keeps_tokens:
            return [(row, row + 1) for row in rows]
        offsets = self.encoded.offsets
        return [(int(offsets[row]), int(offsets[row + 1])) for row in rows]


@dataclass(frozen=True)
class Prefix:
    """The output of a trunk's first blocks for every token of a split, which the trunk continues from."""

    source: FeatureSource
    n_blocks: int


@dataclass(frozen=True)
class LiveFeatures:
    """Features that are computed for every batch, from the token ids or from a prefix."""

    encoded: Encoded
    classifier: Classifier
    device: Device
    prefix: Prefix | None = None

    @torch.no_grad()
    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Packing]:
        """See FeatureSource."""
        with self.device.autocast():
            if self.prefix is None:
                token_ids, packing = self.encoded.pack(np.asarray(rows, dtype=np.int64), self.device.torch_device)
                features = self.classifier.trunk(token_ids, packing)
            else:
                x, packing = self.prefix.source.batch(rows)
                features = self.classifier.trunk_after(x, packing, self.prefix.n_blocks)
        return (features.float() if features.dtype == torch.bfloat16 else features), packing


def trunk_hash(classifier: Classifier) -> str:
    """A hash of everything that features depend on, apart from the texts and the machine.

    That is the trunk's tensors, its number of blocks, the causal mask, the pooling and the frame if the trunk includes
    the pooling, and what changes the computation without being a tensor (`Decoder.fingerprint`).
    """
    config = classifier.config
    digest = hashlib.sha256()
    pooling = config.read if not classifier.keeps_tokens else ""
    facts: list[Any] = [classifier.n_frozen, config.causal_mask, pooling, classifier.decoder.fingerprint()]
    if config.int8_trunk:
        facts.append("int8")
    if config.n_frame and not classifier.keeps_tokens:  # a mean leaves the frame out
        facts.append(list(config.around))
    digest.update(json.dumps(facts).encode())
    for name, tensor in sorted(classifier.trunk_tensors().items()):
        stored = tensor.detach().cpu() if tensor.is_contiguous() else tensor.detach().cpu().t()
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{name}{dtype}{tuple(stored.shape)}{tensor.is_contiguous()}".encode())
        digest.update(bytes_of(stored).data)
    return digest.hexdigest()


def features_work(live: LiveFeatures, put: Callable[[int, Tensor], None]) -> TrunkWork:
    """A run of the trunk over a split, which calls `put(first_row, block)` with the features of each text."""
    classifier, encoded, device, offsets = live.classifier, live.encoded, live.device, live.encoded.offsets
    if device == CPU:
        classifier.pack_trunk()

    def place(rows: NDArray[np.int64], block: Tensor) -> None:
        pieces = torch.split(block, encoded.lengths[rows].tolist() if classifier.keeps_tokens else 1)
        for row, piece in zip(rows, pieces, strict=True):
            put(int(offsets[row] if classifier.keeps_tokens else row), piece)

    return TrunkWork(
        encoded, device, classifier.token_budget(device), lambda rows: live.batch(rows.tolist())[0].cpu(), place
    )


class TrunkPass:
    """The trunk of a run. It creates the feature source of each split."""

    def __init__(
        self,
        classifier: Classifier,
        device: Device,
        *,
        cache: FeatureCache | None,
        say: Callable[[str], None],
        memory_used: int = 0,
    ) -> None:
        """The trunk of a classifier; `shared` is set where several processes have it.

        `cache` None: features stay in memory for this run, which has used `memory_used` bytes for others already.

        `say` gets a message for features that are not kept.
        """
        self.classifier, self.device, self.cache, self.say = classifier, device, cache, say
        self.hash = trunk_hash(classifier) if classifier.n_frozen is not None else None
        self.memory_used = memory_used  # bytes of features in memory, of all splits
        self.shared: SharedTrunk | None = None

    def run(self, work: TrunkWork, facts: dict[str, Any], path: Path | None, progress: Progress | None) -> None:
        """Compute all batches, in this process or together with others; `path`: see `SharedTrunk.run`."""
        if self.shared is None or not self.shared.team.is_open:
            work.run(work.batches(), progress)
        else:
            self.shared.run(work, facts, path, progress)

    def source(
        self, encoded: Encoded, split: str, progress: Progress | None = None, prefix: Prefix | None = None
    ) -> FeatureSource:
        """The features of a split: from the cache, computed and kept, or computed for every batch."""
        live = LiveFeatures(encoded, self.classifier, self.device, prefix)
        if self.hash is None:
            return live
        n_rows = encoded.n_tokens if self.classifier.keeps_tokens else len(encoded)
        shape = (n_rows, self.classifier.feature_width)
        array = (
            self._in_memory(live, shape, split, progress)
            if self.cache is None
            else self._cached(live, shape, split, progress)
        )
        if array is None:
            if self.device == CPU:
                self.classifier.pack_trunk()
            return live
        return StoredFeatures(encoded, array, self.classifier.keeps_tokens, self.device.torch_device)

    def _in_memory(
        self, live: LiveFeatures, shape: tuple[int, int], split: str, progress: Progress | None
    ) -> NDArray[np.float32] | None:
        is_double = self.classifier.head.weight.dtype == torch.float64
        n_bytes = shape[0] * shape[1] * (8 if is_double else 4)
        if self.shared is not None:
            n_bytes *= self.shared.team.rank.local_size
        if self.memory_used + n_bytes > memory_bytes() * MEMORY_FRACTION:
            self.say(
                f"the features of {split} ({n_bytes:,} bytes) do not fit in memory: the trunk runs for every "
                "batch, which is slower"
            )
            return None
        self.memory_used += n_bytes
        array = np.empty(shape, dtype=np.float64 if is_double else np.float32)

        def put(first_row: int, block: Tensor) -> None:
            array[first_row : first_row + len(block)] = block.numpy()

        self.run(features_work(live, put), {"kind": "features"}, None, progress)
        return array

    def _cached(
        self, live: LiveFeatures, shape: tuple[int, int], split: str, progress: Progress | None
    ) -> FeatureFile | None:
        assert self.cache is not None
        assert self.hash is not None
        encoded = live.encoded
        key = entry_key(self.hash, encoded, self.device)
        if (cached := self.cache.open(key, shape, self.say)) is not None:
            if progress:
                progress(encoded.n_tokens)
            return cached
        n_bytes = shape[0] * shape[1] * 4
        not_kept = f"the features of {split} ({n_bytes:,} bytes) are not kept"
        consequence = "the trunk runs for every batch, which is slower and gives the same result to rounding"
        try:
            if reason := self.cache.make_room(n_bytes, self.say):
                self.say(f"{not_kept}: {reason}; {consequence}")
                return None
            facts = {"kind": "features", "shape": shape}
            self.cache.store(key, shape, lambda put: self.run(features_work(live, put), facts, put.path, progress))
        except (StorageError, OSError) as error:  # a disk error costs time, not the training
            self.say(f"{not_kept}: {error}; {consequence}")
            return None
        return self.cache.open(key, shape, self.say)
