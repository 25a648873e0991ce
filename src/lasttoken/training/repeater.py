"""Further trainings of one classifier on the same features, by other seeds and on other rows, without the trunk.

    features of train, validation, test ──► Pool: all rows as one source ──► fit(rows, settings)  ─► probabilities
                                                                               seeds, folds, sizes of train

Each training starts from the backbone's own tail and a new head. The classifier is borrowed for it and gets its weights
back afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.backbone.packing import Packing
from lasttoken.classifier.classifier import drawn_head
from lasttoken.classifier.encoding import Encoded
from lasttoken.core.config import Settings
from lasttoken.data.cutting import cut_folds, cut_rows
from lasttoken.data.files import Examples
from lasttoken.data.label_tables import labels_of
from lasttoken.training.features import FeatureSource
from lasttoken.training.loop import Hooks, Split, Trainer, tail_logits
from lasttoken.training.prepare import Prepared

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """Rows of several feature sources as one: row r is row `at[r]` of source `of[r]`."""

    sources: tuple[FeatureSource, ...]
    of: Rows  # [N]
    at: Rows  # [N]

    @classmethod
    def whole(cls, sources: Sequence[FeatureSource]) -> Pool:
        """All rows of the sources, one source after the other."""
        sizes = [len(source.encoded) for source in sources]
        of = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
        return cls(tuple(sources), of, np.concatenate([np.arange(size, dtype=np.int64) for size in sizes]))

    def take(self, rows: Rows) -> Pool:
        """Some rows, in that order."""
        return Pool(self.sources, self.of[rows], self.at[rows])

    @cached_property
    def encoded(self) -> Encoded:
        """The token ids of the rows."""
        places = list(zip(self.of.tolist(), self.at.tolist(), strict=True))
        parts = [source.encoded for source in self.sources]
        lengths = np.array([parts[of].lengths[at] for of, at in places], dtype=np.int64)
        cut = np.array([parts[of].cut[at] for of, at in places], dtype=np.bool_)
        return Encoded(np.concatenate([parts[of].ids_of([at]) for of, at in places]), lengths, cut, 0)

    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Packing]:
        """See FeatureSource."""
        of, at = self.of[list(rows)], self.at[list(rows)]
        if (of == of[0]).all():
            return self.sources[int(of[0])].batch(at.tolist())
        pieces: list[Tensor] = [torch.empty(0)] * len(of)
        sizes = [0] * len(of)
        for source in np.unique(of).tolist():
            places = np.flatnonzero(of == source).tolist()
            block, packing = self.sources[source].batch(at[places].tolist())
            one_a_text = block.shape[0] == packing.n_texts
            split = torch.split(block, 1 if one_a_text else packing.sizes)
            for place, piece, size in zip(places, split, packing.sizes, strict=True):
                pieces[place], sizes[place] = piece, size
        return torch.cat(pieces), Packing(sizes, pieces[0].device)


class Repeater:
    """Trains a run's classifier repeatedly. It must be made before the classifier is trained for the first time."""

    def __init__(self, prepared: Prepared, features: Mapping[str, Split]) -> None:
        """`features`: the splits of the run; the pool has their rows in this order."""
        self.classifier, self.device = prepared.classifier, prepared.predictor.device
        named = prepared.splits.named()
        self.examples = pooled([named[name] for name in features])
        self.truth = np.concatenate([split.truth for split in features.values()])
        self.pool = Pool.whole([split.source for split in features.values()])
        ends = np.cumsum([len(split) for split in features.values()])
        parts = np.split(np.arange(len(self.truth), dtype=np.int64), ends[:-1])
        self.rows: dict[str, Rows] = dict(zip(features, parts, strict=True))  # of each split, in the pool
        self.label_counts = prepared.label_counts
        self._parameters = self.classifier.trained()
        self._start = self._weights()

    def _weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def _set(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Train the classifier inside the block; its weights are restored afterwards."""
        before = {name: parameter.requires_grad for name, parameter in self._parameters.items()}
        kept = self._weights()
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)
        try:
            yield
        finally:
            self._set(kept)
            for name, parameter in self._parameters.items():
                parameter.requires_grad_(before[name])
                parameter.grad = None

    def _start_again(self, seed: int) -> None:
        """Restore the backbone's own tail, and draw a head by the seed."""
        self._set(self._start)
        head = self.classifier.head
        drawn = drawn_head(head.in_features, head.out_features, seed)
        with torch.no_grad():
            for parameter, fresh in zip(head.parameters(), drawn.parameters(), strict=True):
                parameter.copy_(fresh)

    def fit(
        self,
        rows: Mapping[str, Rows],
        settings: Settings,
        score: Sequence[str] = ("test",),
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, NDArray[np.float32]]:
        """Train on the pool's rows of "train", choose by those of "validation"; log-probabilities [N, K] of `score`.

        Only inside `borrowed`. `settings.seed` draws the head and the order.

        Raises:
            DivergedError: a loss that is not finite.
        """
        self._start_again(settings.seed)
        splits = {name: Split(self.pool.take(at), self.truth[at]) for name, at in rows.items()}
        trainer = Trainer(
            self.classifier,
            {name: splits[name] for name in ("train", "validation")},
            replace(settings, eval_every=0, eval_batches=0),
            self.device,
            Hooks(should_stop=should_stop),
            label_counts=self.label_counts,
        )
        trainer.run()
        task, temperature = self.classifier.config.task, 1.0
        if settings.calibrate:
            temperature = task.fit_temperature(self._logits(splits["validation"]), splits["validation"].truth)
        return {name: task.log_probs(self._logits(splits[name]), temperature) for name in score}

    def _logits(self, split: Split) -> NDArray[np.float32]:
        return tail_logits(self.classifier, split.source, self.device)

    def folds(self, n_folds: int, validation_fraction: float, seed: int) -> list[dict[str, Rows]]:
        """The pool's rows in `n_folds` ways: each row is in test once; no text is on two sides.

        Rows of a label with too few rows for every fold are in every train and in no test.

        Raises:
            DataError: see `cut_folds`.
        """
        folds, names = [], ("train", "validation")
        for test in cut_folds(self.examples, n_folds, seed).sides:
            rest = np.setdiff1d(np.arange(len(self.examples)), test)
            share = validation_fraction / (1 - 1 / n_folds)
            train, validation = cut_rows(self.examples.take(rest.tolist()), (1 - share, share), names, seed).sides
            folds.append({"train": rest[train], "validation": rest[validation], "test": test})
        return folds


def pooled(parts: Sequence[Examples]) -> Examples:
    """Labelled examples, one part after the other, with the groups that all of them have."""
    groups = [part.groups for part in parts]
    return Examples(
        [text for part in parts for text in part.texts],
        [label for part in parts for label in labels_of(part)],
        groups=None if None in groups else [group for some in groups for group in some or []],
        source=parts[0].source,
        separator=parts[0].separator,
    )


def out_of_fold(
    repeater: Repeater,
    settings: Settings,
    n_folds: int,
    progress: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float32]:
    """Log-probabilities [N, K] of all rows of the pool, each by a classifier that was trained without it.

    NaN where there is none: rows of a label with too few rows for every fold.

    Raises:
        DataError: see `cut_folds`.
    """
    log_probs = np.full((len(repeater.truth), repeater.classifier.head.out_features), np.nan, dtype=np.float32)
    with repeater.borrowed():
        for rows in repeater.folds(n_folds, settings.validation_fraction, settings.seed):
            log_probs[rows["test"]] = repeater.fit(rows, settings)["test"]
            progress(1)
    return log_probs
