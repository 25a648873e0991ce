"""Which settings should be the default? Recipes against each other on the same rows, paired, over seeds.

    python benchmarks/recipes.py --data sms=SMSSpamCollection trec=trec/ demo --seeds 5 --out trials.jsonl

For each data set and seed the rows are split once (leak-free, stratified); every recipe trains on the same train
rows, chooses by the same validation rows and is measured on the same test rows. A folder of official splits keeps
its test split and cuts validation from train by the seed. The frozen trunk runs once for each depth and reading,
over all rows; every seed and recipe shares it, which is what makes some hundred trainings a matter of minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.config import resolve
from lasttoken.data.book import book_splits
from lasttoken.data.encoding import Encoded, encode_texts
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.splits import cut_validation, natural_order, read_splits, split_examples
from lasttoken.model.classifier import Classifier, ClassifierConfig
from lasttoken.model.packing import Packing
from lasttoken.model.pretrained import load_backbone
from lasttoken.runtime import CPU, quicken_cpu
from lasttoken.training.features import FeatureSource, TrunkPass
from lasttoken.training.loop import Split, Trainer, tail_logits

BOOK: dict[str, Any] = {"recipe": "book"}


@dataclass(frozen=True)
class View:
    """Some rows of a feature source, as a source of their own."""

    source: FeatureSource
    rows: NDArray[np.int64]

    @property
    def encoded(self) -> Encoded:
        """Lengths of the rows; the token ids stay with the source."""
        whole = self.source.encoded
        return Encoded(whole.token_ids, whole.lengths[self.rows], whole.cut[self.rows], 0)

    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Packing]:
        """See FeatureSource."""
        return self.source.batch(self.rows[list(rows)].tolist())


def numbered(examples: Examples, first: int = 0) -> Examples:
    """The examples with their row numbers as ids, so that a split tells which rows it took."""
    return Examples(examples.texts, examples.labels, [str(first + row) for row in range(len(examples))])


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


def rows_of(examples: Examples) -> NDArray[np.int64]:
    """The row numbers that `numbered` gave."""
    return np.array([int(row) for row in examples.ids or []], dtype=np.int64)


class Bench:
    """One data set, its splits by seed, and features by what they depend on."""

    def __init__(self, name: str, backbone: str) -> None:
        self.name = name.partition("=")[0]
        self.pool, self.test = load_data(name)
        self.everything = [*self.pool.texts, *(self.test.texts if self.test else [])]
        self.labels = natural_order(self.pool.labels or [])
        ids = {label: label_id for label_id, label in enumerate(self.labels)}
        names = [*(self.pool.labels or []), *((self.test.labels or []) if self.test else [])]
        self.label_ids = np.array([ids[label] for label in names], dtype=np.int64)
        self.backbone_name = backbone
        self.sources: dict[tuple[object, ...], FeatureSource] = {}

    def split(self, seed: int) -> dict[str, NDArray[np.int64]]:
        """Row numbers of each split."""
        if self.test is not None:
            train, validation = cut_validation(self.pool, 0.1, seed)
            return {"train": rows_of(train), "validation": rows_of(validation), "test": rows_of(self.test)}
        splits = split_examples(self.pool, 0.7, 0.1, seed)
        assert splits.validation is not None
        assert splits.test is not None
        found = {"train": splits.train, "validation": splits.validation, "test": splits.test}
        return {name: rows_of(examples) for name, examples in found.items()}

    def run(self, overrides: dict[str, Any], seed: int) -> dict[str, Any]:
        """Train one recipe on one split."""
        settings = resolve(str(overrides.get("recipe", "default")), {**overrides, "seed": seed})
        backbone = load_backbone(self.backbone_name)
        length = backbone.max_length
        if settings.read == "padded-last":
            every = encode_texts(
                backbone.tokenizer, self.everything, max_length=length, truncate="tail", end_of_text_id=0
            )
            length = every.longest
        config = ClassifierConfig(
            tuple(self.labels), settings.read, settings.causal_mask, length, settings.truncate, settings.train_blocks,
            backbone.end_of_text_id, backbone.name,
        )  # fmt: skip
        classifier = Classifier(backbone.gpt, config, seed)
        key = (
            settings.train_blocks,
            settings.read if settings.train_blocks == "head" else config.pads,
            settings.causal_mask,
        )
        started = time.perf_counter()
        if key not in self.sources:
            encoded = encode_texts(
                backbone.tokenizer, self.everything, max_length=length, truncate=settings.truncate,
                end_of_text_id=backbone.end_of_text_id, pad=config.pads,
            )  # fmt: skip
            trunk = TrunkPass(classifier, CPU, cache=None, say=print)
            source = trunk.source(encoded, self.name)
            self.sources[key] = source
        source = (
            self.sources[key]
            if settings.train_blocks != "all"
            else TrunkPass(classifier, CPU, cache=None, say=print).source(self.sources[key].encoded, "")
        )
        trunk_s = time.perf_counter() - started
        rows = self.split(seed)
        splits = {name: Split(View(source, at), self.label_ids[at]) for name, at in rows.items()}
        started = time.perf_counter()
        outcome = Trainer(classifier, splits, settings, CPU).run()
        correct = tail_logits(classifier, splits["test"].source, CPU).argmax(1) == splits["test"].label_ids
        return {
            "data": self.name,
            "seed": seed,
            "accuracy": float(correct.mean()),
            "kept_step": outcome.kept_step,
            "trunk_s": round(trunk_s, 2),
            "tail_s": round(time.perf_counter() - started, 2),
            "test_rows": rows["test"].tolist(),
            "correct": correct.astype(int).tolist(),
        }


def paired_interval(
    ours: list[dict[str, Any]], book: list[dict[str, Any]], draws: int = 4000
) -> tuple[float, float, float]:
    """Mean difference of accuracy to the book's recipe and its 95 % interval.

    Bootstrap over test rows (each row drawn with the answers it got under every seed): the percentile method.
    """
    by_row: dict[int, list[int]] = {}
    for one, other in zip(ours, book, strict=True):
        for row, a, b in zip(one["test_rows"], one["correct"], other["correct"], strict=True):
            by_row.setdefault(row, []).append(a - b)
    sums = np.array([sum(values) for values in by_row.values()], dtype=float)
    sizes = np.array([len(values) for values in by_row.values()], dtype=float)
    random = np.random.default_rng(0)
    at = random.integers(0, len(sums), (draws, len(sums)))
    means = sums[at].sum(1) / sizes[at].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(sums.sum() / sizes.sum()), float(low), float(high)


def main() -> None:
    """Run recipes (name=JSON of settings) on data sets, and print a table of means and paired differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["demo"], help="demo, name=file, name=folder, sms-balanced=file")
    parser.add_argument("--recipe", nargs="*", default=[], help='name={"epochs": 5, ...}; default and book always run')
    parser.add_argument("--backbone", default="pocket")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="append each training as a line of JSON")
    arguments = parser.parse_args()
    quicken_cpu()
    recipes: dict[str, dict[str, Any]] = {"book": BOOK, "default": {}}
    for text in arguments.recipe:
        name, _, content = text.partition("=")
        recipes[name] = json.loads(content)
    print("data\trecipe\tmean accuracy\tsd over seeds\tminus book\t95% interval\ttail seconds")
    for data in arguments.data:
        bench = Bench(data, arguments.backbone)
        found: dict[str, list[dict[str, Any]]] = {}
        for name, overrides in recipes.items():
            found[name] = [bench.run(overrides, seed) for seed in range(arguments.seeds)]
            if arguments.out:
                with arguments.out.open("a") as file:
                    for line in found[name]:
                        file.write(json.dumps({"recipe": name, "settings": overrides, **line}) + "\n")
            accuracies = [line["accuracy"] for line in found[name]]
            difference, low, high = paired_interval(found[name], found["book"])
            spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
            print(
                f"{bench.name}\t{name}\t{statistics.mean(accuracies):.4f}\t{spread:.4f}\t{difference:+.4f}\t"
                f"{low:+.4f} to {high:+.4f}\t{statistics.median(line['tail_s'] for line in found[name]):.1f}"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
