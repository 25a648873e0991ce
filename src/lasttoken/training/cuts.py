"""Features of texts after several blocks, from one pass: tokens for tails, pooled vectors for linear heads.

    token_ids ─► embed ─► block 1 ─► … ─► block f ─► …                after each number of blocks f that is asked for:
                                            ├─► states of all tokens                               [n_tokens, C]
                                            └─► final norm ─► last token, mean of the tokens       [N, 2C]

A search compares tails behind several cuts of the backbone; each finds its features here. They stay in memory, or in
a temporary file where they would take more than half of it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.encoding import Encoded, run_by_length
from lasttoken.core.cache import FOLDERS
from lasttoken.core.device import CPU, Device
from lasttoken.core.machine import memory_bytes
from lasttoken.core.storage import cache_dir, make_dir, storage_errors
from lasttoken.training.depths import pool_states
from lasttoken.training.features import MEMORY_FRACTION, StoredFeatures
from lasttoken.training.shared_trunk import Progress

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class CutFeatures:
    """Features of N texts after several numbers of blocks."""

    encoded: Encoded
    tokens: Mapping[int, Floats]  # by the number of blocks, [n_tokens, C]
    vectors: Mapping[int, Floats]  # [N, 2C]: the last token's state, then the mean; or the first token's, [N, C]

    def source(self, n_blocks: int, device: torch.device) -> StoredFeatures:
        """The features of a tail whose trunk has so many blocks."""
        return StoredFeatures(self.encoded, self.tokens[n_blocks], True, device)


def cut_features(
    classifier: Classifier,
    encoded: Encoded,
    device: Device,
    cuts: Collection[int],
    depths: Collection[int],
    progress: Progress | None = None,
) -> CutFeatures:
    """The tokens' states after each number of blocks in `cuts`, and pooled ones after each of `depths`.

    The classifier has all of these blocks. Its packed matrices are given back afterwards.
    """
    if device == CPU:
        classifier.pack_trunk()
    width = classifier.decoder.config.n_embd
    vector_width = width if classifier.config.read == "first" else 2 * width
    on_disk = 4 * encoded.n_tokens * width * len(cuts) > MEMORY_FRACTION * memory_bytes()
    tokens = {cut: _room((encoded.n_tokens, width), on_disk) for cut in cuts}
    vectors = {depth: np.empty((len(encoded), vector_width), dtype=np.float32) for depth in depths}

    def compute(rows: NDArray[np.int64]) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        return _after_blocks(classifier, encoded, rows, device, (cuts, depths))

    budget, offsets = classifier.token_budget(device), encoded.offsets
    for rows, (states, pooled) in run_by_length(compute, encoded.lengths, device, token_budget=budget):
        for depth, block in pooled.items():
            vectors[depth][rows] = block.numpy()
        for cut, block in states.items():
            for row, piece in zip(rows.tolist(), torch.split(block, encoded.lengths[rows].tolist()), strict=True):
                tokens[cut][offsets[row] : offsets[row + 1]] = piece.numpy()
        if progress:
            progress(int(encoded.lengths[rows].sum()))
    classifier.unpack_trunk()
    return CutFeatures(encoded, tokens, vectors)


def _room(shape: tuple[int, int], on_disk: bool) -> Floats:
    """An array, in memory or in a file of the cache that has no name and ends with the process.

    Raises:
        StorageError: no permission, or a full disk.
    """
    if not on_disk or not all(shape):
        return np.empty(shape, dtype=np.float32)
    folder = make_dir(cache_dir() / FOLDERS["features"])
    with storage_errors(folder), tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a crash when the array is written to
            os.posix_fallocate(file.fileno(), 0, 4 * shape[0] * shape[1])
        return np.memmap(file, dtype=np.float32, mode="w+", shape=shape)


def _after_blocks(
    classifier: Classifier,
    encoded: Encoded,
    rows: NDArray[np.int64],
    device: Device,
    wanted: tuple[Collection[int], Collection[int]],
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """States after each cut, and pooled states after each depth, of some rows."""
    cuts, depths = wanted
    token_ids, packing = encoded.pack(rows, device.torch_device)
    x = classifier.decoder.embed(token_ids, packing.positions)
    states, pooled = {}, {}
    for n_blocks in range(max([*cuts, *depths], default=0) + 1):
        if n_blocks:
            x = classifier.decoder.blocks[n_blocks - 1](x, packing, classifier.config.causal_mask)
        if n_blocks in cuts:
            states[n_blocks] = x.float().cpu()
        if n_blocks in depths:
            pooled[n_blocks] = pool_states(classifier, x, packing).float().cpu()
    return states, pooled
