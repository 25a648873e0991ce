"""Rows of several feature sources as one source, for trainings on other parts of the rows than the splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.backbone.packing import Packing
from lasttoken.classifier.encoding import Encoded
from lasttoken.training.features import FeatureSource

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """Rows of several feature sources as one source: row r is row `source_rows[r]` of source `source_ids[r]`."""

    sources: tuple[FeatureSource, ...]
    source_ids: Rows  # [N]
    source_rows: Rows  # [N]

    @classmethod
    def whole(cls, sources: Sequence[FeatureSource]) -> Pool:
        """All rows of the sources, one source after the other."""
        sizes = [len(source.encoded) for source in sources]
        source_ids = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
        return cls(tuple(sources), source_ids, np.concatenate([np.arange(size, dtype=np.int64) for size in sizes]))

    def take(self, rows: Rows) -> Pool:
        """The pool of these rows, in their order."""
        return Pool(self.sources, self.source_ids[rows], self.source_rows[rows])

    @cached_property
    def encoded(self) -> Encoded:
        """The token ids of the rows."""
        places = list(zip(self.source_ids.tolist(), self.source_rows.tolist(), strict=True))
        encoded = [source.encoded for source in self.sources]
        lengths = np.array([encoded[source].lengths[row] for source, row in places], dtype=np.int64)
        cut = np.array([encoded[source].cut[row] for source, row in places], dtype=np.bool_)
        return Encoded(np.concatenate([encoded[source].ids_of([row]) for source, row in places]), lengths, cut, 0)

    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Packing]:
        """See FeatureSource."""
        source_ids, source_rows = self.source_ids[list(rows)], self.source_rows[list(rows)]
        if (source_ids == source_ids[0]).all():
            return self.sources[int(source_ids[0])].batch(source_rows.tolist())
        pieces: list[Tensor] = [torch.empty(0)] * len(source_ids)
        sizes = [0] * len(source_ids)
        for source in np.unique(source_ids).tolist():
            places = np.flatnonzero(source_ids == source).tolist()
            block, packing = self.sources[source].batch(source_rows[places].tolist())
            has_one_vector_per_text = block.shape[0] == packing.n_texts
            split = torch.split(block, 1 if has_one_vector_per_text else packing.sizes)
            for place, piece, size in zip(places, split, packing.sizes, strict=True):
                pieces[place], sizes[place] = piece, size
        return torch.cat(pieces), Packing(sizes, pieces[0].device)
