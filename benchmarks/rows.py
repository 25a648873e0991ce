"""The same rows for everyone who is compared: data sets, their splits by seed, features that trainings share.

    name=path ──► DataSet ──► split(seed)              row numbers of train, validation, test
                     │    └─► few(seed, shots)         the same test rows, a few train examples of each label
                     └──────► Bench(data, backbone)    .train(settings, rows) ──► which test rows came out right

The frozen trunk runs once over all rows for each depth and reading; every seed and every split shares it, which is
what makes some hundred trainings a matter of minutes. `paired_interval` compares two lists of trainings.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.backbone.packing import Packing
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.backbone.prompt import frame_with_prompt
from lasttoken.classifier.classifier import Classifier, ClassifierConfig
from lasttoken.classifier.encoding import Encoded, encode_texts
from lasttoken.core.config import Settings
from lasttoken.core.device import CPU, Device
from lasttoken.data.book import book_splits
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.folders import read_splits
from lasttoken.data.label_tables import labels_of
from lasttoken.data.labels import natural_order
from lasttoken.data.splitting.cutting import cut_validation, split_examples
from lasttoken.runs.session import completed
from lasttoken.training.features import FeatureSource, TrunkPass
from lasttoken.training.loop import TrainingInputs
from lasttoken.training.methods import train_classifier
from lasttoken.training.split_features import SplitFeatures, tail_logits

Rows = dict[str, NDArray[np.int64]]  # row numbers of train, validation and test
Training = dict[str, Any]  # what came of one training; a line of a benchmark's --out


@dataclass(frozen=True)
class View:
    """Some rows of a feature source, as a source of their own."""

    source: FeatureSource
    rows: NDArray[np.int64]

    @cached_property
    def encoded(self) -> Encoded:
        """The token ids of the rows."""
        whole = self.source.encoded
        return Encoded(whole.ids_of(self.rows), whole.lengths[self.rows], whole.cut[self.rows], 0)

    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Packing]:
        """See FeatureSource."""
        return self.source.batch(self.rows[list(rows)].tolist())


def load_data(name: str) -> tuple[Examples, Examples | None]:
    """(rows to split, official test rows or None) of `name=path`, or of the bundled messages for `demo`."""
    if name == "demo":
        with resources.as_file(resources.files("lasttoken") / "demo" / "messages.csv") as path:
            return numbered(read_examples(path)), None
    path = Path(name.partition("=")[2])
    if path.is_dir():
        splits = read_splits(path)
        train = numbered(splits.train)
        return train, numbered(splits.test, len(train)) if splits.test else None
    if name.startswith("sms-balanced="):
        splits, _ = book_splits(path)
        parts = [part for part in (splits.train, splits.validation, splits.test) if part]
        return numbered(Examples([t for p in parts for t in p.texts], [x for p in parts for x in p.labels or []])), None
    return numbered(read_examples(path)), None


def numbered(examples: Examples, first: int = 0) -> Examples:
    """The examples with their row numbers as ids, so that a split tells which rows it took."""
    return Examples(examples.texts, examples.labels, [str(first + row) for row in range(len(examples))])


def rows_of(examples: Examples) -> NDArray[np.int64]:
    """The row numbers that `numbered` gave."""
    return np.array([int(row) for row in examples.ids or []], dtype=np.int64)


class DataSet:
    """All rows of a data set, the official test rows last where there are any, and its splits by seed."""

    def __init__(self, name: str) -> None:
        """`name`: see load_data."""
        self.name = name.partition("=")[0]
        self.pool, self.test = load_data(name)
        parts = [self.pool, self.test] if self.test else [self.pool]
        self.texts = [text for part in parts for text in part.texts]
        self.labels = natural_order(labels_of(self.pool))
        ids = {label: label_id for label_id, label in enumerate(self.labels)}
        self.label_ids = np.array([ids[label] for part in parts for label in labels_of(part)], dtype=np.int64)

    def split(self, seed: int) -> Rows:
        """The rows of each split: leak-free and stratified, or official test rows and validation cut from train."""
        if self.test is not None:
            cut = cut_validation(self.pool, 0.1, seed).named()
            return {**{name: rows_of(examples) for name, examples in cut.items()}, "test": rows_of(self.test)}
        found = split_examples(self.pool, 0.7, 0.1, seed).named()
        return {name: rows_of(examples) for name, examples in found.items()}

    def few(self, seed: int, shots: int) -> Rows:
        """`split` with at most `shots` rows of each label in train and in validation, drawn by the seed."""
        rows, rng = self.split(seed), np.random.default_rng(seed)
        drawn = {}
        for name in ("train", "validation"):
            shuffled = rng.permutation(rows[name])
            of_label = [shuffled[self.label_ids[shuffled] == label_id] for label_id in range(len(self.labels))]
            drawn[name] = np.sort(np.concatenate([found[:shots] for found in of_label]))
        return {**rows, **drawn}

    def texts_and_labels(self, rows: NDArray[np.int64]) -> tuple[list[str], list[str]]:
        """The texts of some rows, and their labels by name."""
        return [self.texts[row] for row in rows], [self.labels[self.label_ids[row]] for row in rows]


class Bench:
    """A backbone on a data set: trainings that share features wherever what these depend on is the same."""

    def __init__(self, data: DataSet, backbone: str, device: Device = CPU) -> None:
        """`backbone`: a name, a hub id or a folder."""
        self.data, self.backbone, self.device = data, backbone, device
        self.sources: dict[tuple[object, ...], FeatureSource] = {}

    def train(self, settings: Settings, rows: Rows) -> Training:
        """Train on the train rows, choose by the validation rows, measure on the test rows."""
        settings = self._complete(settings, rows)
        classifier, encoded, key = self._prepare(settings)
        started = time.perf_counter()
        if key not in self.sources:
            trunk = TrunkPass(classifier, self.device, cache=None, say=partial(print, file=sys.stderr))
            self.sources[key] = trunk.source(encoded, self.data.name)
        trunk_s = time.perf_counter() - started
        splits = {
            name: SplitFeatures(View(self.sources[key], at), self.data.label_ids[at]) for name, at in rows.items()
        }
        started = time.perf_counter()
        outcome = train_classifier(classifier, TrainingInputs(splits, settings, self.device))
        logits = tail_logits(classifier, splits["test"].source, self.device)
        correct = logits.argmax(1) == splits["test"].truth
        return {
            "accuracy": float(correct.mean()),
            "kept_step": outcome.kept_step,
            "trunk_s": round(trunk_s, 2),
            "tail_s": round(time.perf_counter() - started, 2),
            "test_rows": rows["test"].tolist(),
            "correct": correct.astype(int).tolist(),
        }

    def _complete(self, settings: Settings, rows: Rows) -> Settings:
        """The settings as a tail's, with the recipe of the backbone for these train rows and the backbone's prompt."""
        backbone = load_backbone(self.backbone)
        tail = replace(settings, method="tail", depth=None)
        train = Examples([self.data.texts[row] for row in rows["train"]])
        return completed(tail, backbone.config, train).with_prompt_of(backbone.prompt)

    def _prepare(self, settings: Settings) -> tuple[Classifier, Encoded, tuple[object, ...]]:
        """A fresh classifier, all rows as token ids, and what features of these depend on."""
        backbone = load_backbone(self.backbone)
        pads = settings.read == "padded-last"
        prefix_ids, suffix_ids = frame_with_prompt(backbone, settings.template)

        def encode(max_length: int, pad: bool) -> Encoded:
            return encode_texts(
                backbone.tokenizer, self.data.texts, max_length=max_length, truncate=settings.truncate,
                end_of_text_id=backbone.end_of_text_id, pad=pad, prefix_ids=prefix_ids, suffix_ids=suffix_ids,
            )  # fmt: skip

        max_length = settings.max_length or backbone.max_length
        encoded = encode(max_length, pad=False)
        if pads:
            max_length = encoded.longest
            encoded = encode(max_length, pad=True)
        config = ClassifierConfig(
            tuple(self.data.labels), settings.read, settings.causal_mask, max_length, settings.truncate,
            settings.train_blocks, backbone.end_of_text_id, backbone.name, self.device.precision == "int8",
            prefix_ids=prefix_ids, suffix_ids=suffix_ids, prompt=settings.template,
        )  # fmt: skip
        reading = settings.read if settings.train_blocks == "head" else pads
        key = (settings.train_blocks, reading, settings.causal_mask, max_length, settings.truncate, settings.template)
        classifier = Classifier(backbone.decoder, config, settings.seed)
        if config.int8_trunk:
            classifier.quantize_trunk()
        return classifier, encoded, key


def paired_interval(
    ours: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]], draws: int = 4000
) -> tuple[float, float, float]:
    """Mean difference of accuracy to the reference's trainings, seed by seed, and its 95 % interval.

    Bootstrap over test rows (each row drawn with the answers it got under every seed): the percentile method.
    """
    by_row: dict[int, list[int]] = {}
    for one, other in zip(ours, reference, strict=True):
        assert one["test_rows"] == other["test_rows"]
        for row, a, b in zip(one["test_rows"], one["correct"], other["correct"], strict=True):
            by_row.setdefault(row, []).append(a - b)
    sums = np.array([sum(values) for values in by_row.values()], dtype=float)
    sizes = np.array([len(values) for values in by_row.values()], dtype=float)
    random = np.random.default_rng(0)
    drawn = (random.integers(0, len(sums), len(sums)) for _ in range(draws))
    low, high = np.percentile([sums[at].sum() / sizes[at].sum() for at in drawn], [2.5, 97.5])
    return float(sums.sum() / sizes.sum()), float(low), float(high)
