"""Features in memory, kept for later trainings in this process, so that the trunk runs once per text.

    fit on rows 1-80   ──► new texts: all              ──► trunk ──► kept by their token ids
    fit on rows 21-100 ──► new texts: rows 81-100 only ──► trunk      each split is a Pool of kept features

Cross-validation and parameter searches need this: their splits are different rows of the same texts. The cache on disk
keeps whole splits and would not find them.
"""

from __future__ import annotations

import numpy as np

from lasttoken.classifier.encoding import Encoded
from lasttoken.training.features import FeatureSource, TrunkPass
from lasttoken.training.pool import Pool

DEFAULT_LIMIT = 2 << 30  # bytes


class SharedFeatures:
    """Features of texts from one trunk, up to a limit. Beyond the limit, and for another trunk, it starts empty."""

    def __init__(self, limit_bytes: int = DEFAULT_LIMIT) -> None:
        self._limit = limit_bytes
        self._trunk: str | None = None  # trunk and device of the features
        self.n_new = 0  # texts for which the last call of `pool` ran the trunk
        self._clear()

    def _clear(self) -> None:
        self._sources: list[FeatureSource] = []
        self._places: dict[bytes, tuple[int, int]] = {}  # token ids of a text → source, row
        self._n_bytes = 0

    def _new(self, keys: list[bytes]) -> list[int]:
        """The first row of each text that has no features yet."""
        firsts = {key: row for row, key in reversed(list(enumerate(keys)))}
        return sorted(row for key, row in firsts.items() if key not in self._places)

    def pool(self, trunk: TrunkPass, encoded: Encoded, name: str) -> FeatureSource:
        """The features of texts; the trunk runs for new ones. `name` is that of the split, for messages."""
        self.n_new = len(encoded)
        if trunk.hash is None:
            return trunk.source(encoded, name)
        trunk_id = f"{trunk.hash} {trunk.device}"
        if trunk_id != self._trunk:
            self._clear()
            self._trunk = trunk_id
        keys = [encoded.ids_of([row]).tobytes() for row in range(len(encoded))]
        new = self._new(keys)
        if new and self._n_bytes + _size(trunk, encoded, new) > self._limit:
            self._clear()
            new = self._new(keys)
        self.n_new = len(new)
        if new:
            part = Encoded(encoded.ids_of(new), encoded.lengths[new], encoded.cut[new], 0)
            self._sources.append(trunk.source(part, name))
            self._places |= {keys[row]: (len(self._sources) - 1, place) for place, row in enumerate(new)}
            self._n_bytes += _size(trunk, encoded, new)
        places = np.array([self._places[key] for key in keys], dtype=np.int64).reshape(-1, 2)
        return Pool(tuple(self._sources), places[:, 0], places[:, 1])


def _size(trunk: TrunkPass, encoded: Encoded, rows: list[int]) -> int:
    """The size in bytes of the features of some texts."""
    n_vectors = int(encoded.lengths[rows].sum()) if trunk.classifier.keeps_tokens else len(rows)
    return 4 * n_vectors * trunk.classifier.feature_width
