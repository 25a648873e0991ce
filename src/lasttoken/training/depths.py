"""The features of texts after several blocks of a backbone, from one pass: what a head would read if it ended there.

    token_ids ─► embed ─► block 1 ─► … ─► block d ─► …        after each depth d that is tried:
                                       └─► final norm ─► last token, mean of the tokens        [N, 2C]

They are kept like other features, in the cache or in memory, depth after depth: [n_depths · N, 2C].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.backbone.packing import Packing
from lasttoken.classifier.classifier import Classifier, pool
from lasttoken.classifier.encoding import Encoded
from lasttoken.core.device import CPU, Device
from lasttoken.core.errors import StorageError
from lasttoken.training.feature_cache import FeatureFile, FeatureWriter, entry_key
from lasttoken.training.features import TrunkPass
from lasttoken.training.shared_trunk import Progress, TrunkWork

EACH_UP_TO = 12  # blocks of a backbone in which every depth is tried
MOST_DEPTHS = 10  # that are tried in a deeper one
FIRST, LAST = 0.3, 1.0  # of its blocks, the range of depths that is tried (docs/decisions/reading.md)
Floats = NDArray[np.float32]


def depths_to_try(n_blocks: int) -> list[int]:
    """The depths that are tried for a backbone of so many blocks.

    >>> depths_to_try(6), depths_to_try(30)
    ([1, 2, 3, 4, 5, 6], [9, 11, 14, 16, 18, 21, 23, 25, 28, 30])
    """
    if n_blocks <= EACH_UP_TO:
        return list(range(1, n_blocks + 1))
    tried = np.linspace(FIRST * n_blocks, LAST * n_blocks, MOST_DEPTHS).round().astype(int)
    return sorted({max(int(depth), 1) for depth in tried})


@dataclass(frozen=True)
class DepthFeatures:
    """Features of N texts at several depths."""

    depths: tuple[int, ...]
    n_texts: int
    array: Floats | FeatureFile  # [n_depths · N, 2C], or [·, C] for the first token

    def at(self, depth: int) -> Floats:
        """The features after `depth` blocks, [N, 2C]: the last token's state, then the mean of the own tokens."""
        first = self.depths.index(depth) * self.n_texts
        end = first + self.n_texts
        return self.array.rows([(first, end)]) if isinstance(self.array, FeatureFile) else self.array[first:end]


def pooled(block: Floats, read: str) -> Floats:
    """What a head of this pooling reads from features [N, 2C]."""
    width = block.shape[1] // 2
    return {"last+mean": block, "mean": block[:, width:], "padded-mean": block[:, width:], "first": block}.get(
        read, block[:, :width]
    )


def depth_features(
    trunk: TrunkPass, encoded: Encoded, depths: Sequence[int], progress: Progress | None = None
) -> DepthFeatures:
    """The features at these depths, from the cache or computed; the classifier of `trunk` has all of their blocks."""
    classifier, device = trunk.classifier, trunk.device
    width = (1 if classifier.config.read == "first" else 2) * classifier.decoder.config.n_embd
    shape = (len(depths) * len(encoded), width)

    def compute(put: Callable[[int, Tensor], None]) -> None:
        work = depths_work(classifier, device, encoded, depths, put)
        facts = {"kind": "depths", "depths": list(depths), "shape": shape}
        trunk.run(work, facts, put.path if isinstance(put, FeatureWriter) else None, progress)

    if trunk.cache is not None and trunk.hash is not None:
        key = entry_key(f"{trunk.hash} after blocks {list(depths)}", encoded, device)
        if (cached := trunk.cache.open(key, shape, trunk.say)) is not None:
            return DepthFeatures(tuple(depths), len(encoded), cached)
        try:
            if trunk.cache.make_room(shape[0] * shape[1] * 4, trunk.say) is None:
                trunk.cache.store(key, shape, compute)
                if (stored := trunk.cache.open(key, shape, trunk.say)) is not None:
                    return DepthFeatures(tuple(depths), len(encoded), stored)
        except (StorageError, OSError) as error:  # a disk error costs memory, not the training
            trunk.say(f"the features of several depths are kept in memory: {error}")
    array = np.empty(shape, dtype=np.float32)

    def put(first_row: int, block: Tensor) -> None:
        array[first_row : first_row + len(block)] = block.numpy()

    compute(put)
    return DepthFeatures(tuple(depths), len(encoded), array)


def depths_work(
    classifier: Classifier,
    device: Device,
    encoded: Encoded,
    depths: Sequence[int],
    put: Callable[[int, Tensor], None],
) -> TrunkWork:
    """A run of all blocks over the texts, which calls `put(first_row, block)` with a text's features at each depth."""
    if device == CPU:
        classifier.pack_trunk()

    def compute(rows: NDArray[np.int64]) -> Tensor:
        return after_blocks(classifier, depths, *encoded.pack(rows, device.torch_device)).float().cpu()

    def place(rows: NDArray[np.int64], block: Tensor) -> None:
        for at in range(len(depths)):
            for row, features in zip(rows.tolist(), block[at], strict=True):
                put(at * len(encoded) + row, features[None])

    return TrunkWork(encoded, device, classifier.token_budget(device), compute, place)


def after_blocks(classifier: Classifier, depths: Sequence[int], token_ids: Tensor, packing: Packing) -> Tensor:
    """Packed token ids [n] -> pooled states after each depth, [n_depths, B, 2C], or [n_depths, B, C] for `first`."""
    decoder, config = classifier.decoder, classifier.config
    x = decoder.embed(token_ids, packing.positions)
    found = []
    for depth, block in enumerate(decoder.blocks[: max(depths)], 1):
        x = block(x, packing, config.causal_mask)
        if depth in depths:
            found.append(pool_states(classifier, x, packing))
    return torch.stack(found)


def pool_states(classifier: Classifier, x: Tensor, packing: Packing) -> Tensor:
    """States after a block [n, C] -> last token and mean after the final norm, [B, 2C], or the first token, [B, C]."""
    if classifier.config.read == "first":
        return classifier.decoder.final_norm(x[packing.starts])  # type: ignore[no-any-return]
    return pool(classifier.decoder.final_norm(x), packing, classifier.config.not_averaged)
