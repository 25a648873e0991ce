"""Features of texts, kept in memory for the next training in this process: the trunk runs once for a text.

    fit on rows 1-80   ──► texts that are not known yet ──► trunk ──► kept, by their token ids
    fit on rows 21-100 ──► rows 81-100 alone            ──► trunk      a Pool of what is kept, for each split

What cross-validation and searches need: their splits are other rows of the same texts, so the cache on disk, which
keeps a split as a whole, finds none of them.
"""

from __future__ import annotations

import numpy as np

from lasttoken.classifier.encoding import Encoded
from lasttoken.training.features import FeatureSource, TrunkPass
from lasttoken.training.repeater import Pool

DEFAULT_LIMIT = 2 << 30  # bytes


class SharedFeatures:
    """Features of one trunk's texts, up to a limit; beyond it, or for another trunk, it starts afresh."""

    def __init__(self, limit_bytes: int = DEFAULT_LIMIT) -> None:
        self._limit = limit_bytes
        self._trunk: str | None = None
        self.n_new = 0  # texts for which the last call of `pool` ran the trunk
        self._clear()

    def _clear(self) -> None:
        self._sources: list[FeatureSource] = []
        self._places: dict[bytes, tuple[int, int]] = {}  # token ids of a text → source, row
        self._n_bytes = 0

    def _new(self, keys: list[bytes]) -> list[int]:
        """The first row of each text that is not known."""
        firsts = {key: row for row, key in reversed(list(enumerate(keys)))}
        return sorted(row for key, row in firsts.items() if key not in self._places)

    def pool(self, trunk: TrunkPass, encoded: Encoded, name: str) -> FeatureSource:
        """The features of texts; the trunk runs for those that are new. `name`: of the split, for messages."""
        self.n_new = len(encoded)
        if trunk.hash is None:
            return trunk.source(encoded, name)
        belongs_to = f"{trunk.hash} {trunk.device}"
        if belongs_to != self._trunk:
            self._clear()
            self._trunk = belongs_to
        keys = [encoded.ids_of([row]).tobytes() for row in range(len(encoded))]
        new = self._new(keys)
        if new and self._n_bytes + _size(trunk, encoded, new) > self._limit:
            self._clear()
            new = self._new(keys)
        self.n_new = len(new)
        if new:
            part = Encoded(encoded.ids_of(new), encoded.lengths[new], encoded.cut[new], 0)
            self._sources.append(trunk.source(part, name))
            self._places |= {keys[row]: (len(self._sources) - 1, at) for at, row in enumerate(new)}
            self._n_bytes += _size(trunk, encoded, new)
        places = np.array([self._places[key] for key in keys], dtype=np.int64).reshape(-1, 2)
        return Pool(tuple(self._sources), places[:, 0], places[:, 1])


def _size(trunk: TrunkPass, encoded: Encoded, rows: list[int]) -> int:
    """Bytes of the features of some texts."""
    n = int(encoded.lengths[rows].sum()) if trunk.classifier.keeps_tokens else len(rows)
    return 4 * n * trunk.classifier.decoder.config.n_embd
