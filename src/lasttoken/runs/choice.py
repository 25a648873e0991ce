"""What the settings leave open, chosen on held-out rows: depth and pooling, then the method. Test is never read.

    train, validation ─► all depths in one pass ─► a logistic regression at each depth and pooling ─► the best of them
                                                                                                        │
                         method linear: its head       method tail: blocks trained behind it     auto: both, the better

The end of a backbone is rarely where it reads best, and the best depth depends on the data (docs/methods.md). The
comparison takes a part of the rows, the main axes of their features and a coarse path of C. The head that is kept is
fitted anew.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.backbone.pretrained import check_depth, count_blocks
from lasttoken.core.config import CHOSEN, Settings
from lasttoken.core.device import Device
from lasttoken.core.lora import LORA
from lasttoken.core.metric_registry import METRICS
from lasttoken.core.progress import Reporter
from lasttoken.data.files import Examples
from lasttoken.data.label_tables import label_sets
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs.session import completed, open_session
from lasttoken.training.depths import DepthFeatures, depth_features, depths_to_try, pooled
from lasttoken.training.features import StoredFeatures
from lasttoken.training.held_out import Score, best_place
from lasttoken.training.label_words import SCALES, are_words, label_rows, target_of
from lasttoken.training.linear import ROUGH
from lasttoken.training.linear_training import STRENGTHS, Problem, make_problem, walk
from lasttoken.training.split_features import SplitFeatures

EXPLORED_ROWS = (
    1_000  # of train, and as many of validation, in the comparison of depths (benchmarks/2026-11-26-auto.md)
)
EXPLORED_AXES = 192  # of the features
EXPLORED_STRENGTHS = STRENGTHS[::2]
POOLINGS = ("last", "mean")  # tried at every depth
BOTH_AT = 2  # of the best depths, at which last+mean is tried

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """A way to train, and what it gave on held-out rows."""

    method: str
    depth: int
    read: str
    metric: str
    value: float  # of the metric
    loss: float  # at the best temperature
    seconds: float
    C: float | None = None  # its name in scikit-learn, and in metrics.json
    label_words: float | None = None  # the scale of a start from the labels' words; None: from zero
    lora_rank: int | None = None  # of a tail that is trained by LoRA

    @property
    def score(self) -> Score:
        """Its score."""
        return Score(self.value, self.loss, METRICS[self.metric].direction == "max")

    def to_json(self) -> dict[str, Any]:
        """Its fields without those that are None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def in_words(self) -> str:
        """The way to train, for a sentence."""
        start = ", from the labels' words" if self.label_words else ""
        name = self.method if self.lora_rank is None else f"LoRA of rank {self.lora_rank}"
        return f"{name} at depth {self.depth}, pooling {self.read}{start}"


@dataclass(frozen=True)
class Plan:
    """What is trained, with settings that leave nothing open; `linear`, `tail` or both."""

    asked: Settings
    linear: Settings | None
    tail: Settings | None
    candidates: tuple[Candidate, ...] = ()
    label_words: float | None = None
    features: dict[str, Floats] = field(default_factory=dict)  # of the linear head, for splits that were explored whole
    trunk_s: float = 0.0  # for the features of all depths

    @property
    def main(self) -> Settings:
        """The settings of the training whose trunk is computed: the tail's, if one is trained."""
        settings = self.tail or self.linear
        assert settings is not None
        return settings

    def to_toml(self) -> dict[str, Any]:
        """What a resumed run needs to train the same without choosing again."""
        rungs = {"linear": self.linear, "tail": self.tail}
        return {
            "candidates": [candidate.to_json() for candidate in self.candidates],
            **({"label_words": self.label_words} if self.label_words else {}),
            **{name: {"depth": each.depth or "all", "read": each.read} for name, each in rungs.items() if each},
        }

    @classmethod
    def recorded(cls, asked: Settings, content: dict[str, Any]) -> Plan:
        """The plan that `to_toml` recorded."""
        candidates = tuple(Candidate(**each) for each in content["candidates"])
        rungs = {
            name: _concrete(asked, name, str(content[name]["depth"]), content[name]["read"])
            if name in content
            else None
            for name in ("linear", "tail")
        }
        return cls(asked, rungs["linear"], rungs["tail"], candidates, content.get("label_words"))


def _concrete(asked: Settings, method: str, depth: str, read: str) -> Settings:
    blocks = "head" if method == "linear" else asked.train_blocks
    return replace(asked, method=method, depth=depth, read=read, train_blocks=blocks)


def tail_depth(depth: int, train_blocks: str, n_blocks: int) -> int:
    """The depth of a tail whose trained blocks follow `depth` frozen ones, as far as there are blocks.

    With LoRA in a half of the blocks (auto) as many follow as are frozen.

    >>> tail_depth(14, "2", 30), tail_depth(6, "2", 6), tail_depth(3, "all", 12), tail_depth(5, "auto", 12)
    (16, 6, 5, 10)
    """
    if train_blocks == "head":
        return depth
    n_trained = {"all": 2, CHOSEN: depth}.get(train_blocks) or int(train_blocks)
    return min(depth + n_trained, n_blocks)


def plan_training(
    splits: Splits,
    settings: Settings,
    device: Device,
    *,
    offline: bool = False,
    reporter: Reporter | None = None,
) -> Plan:
    """Choose what the settings leave open, on rows of train and validation.

    Raises:
        BackboneError, NetworkError, SettingsError: see `open_session`.
    """
    if not settings.leaves_choices:
        is_linear = settings.method == "linear"
        return Plan(settings, settings if is_linear else None, None if is_linear else settings)
    reporter = reporter or Reporter()
    n_blocks = count_blocks(settings.backbone, offline, reporter, settings.random_weights is None)
    fixed = None if settings.depth == CHOSEN else settings.n_blocks or n_blocks
    if fixed is not None:
        check_depth(fixed, n_blocks, settings.backbone)
    depths = depths_to_try(n_blocks) if fixed is None else [fixed]
    explorer = _Explorer(splits, settings, device, depths, offline, reporter)
    with reporter.working("comparing depths and poolings"):
        best = explorer.explore()
    tail = None
    complete = completed(settings, explorer.config, splits.train)
    suits_few_rows = complete.start_head == "linear"
    if settings.method == "tail" or (settings.method == "auto" and (suits_few_rows or not explorer.folds)):
        trained = settings.lora_blocks if complete.train_blocks == LORA else complete.train_blocks
        depth = fixed or tail_depth(best.depth, trained, n_blocks)
        tail = _concrete(settings, "tail", str(depth), settings.read)
    linear = None if settings.method == "tail" else _concrete(settings, "linear", str(best.depth), best.read)
    features = {} if tail else explorer.whole_splits(best)
    return Plan(settings, linear, tail, tuple(explorer.candidates), best.label_words, features, explorer.trunk_s)


class _Explorer:
    """The comparison of depths and poolings."""

    def __init__(
        self,
        splits: Splits,
        settings: Settings,
        device: Device,
        depths: list[int],
        offline: bool,
        reporter: Reporter,
    ) -> None:
        self.settings, self.depths, self.candidates = settings, depths, list[Candidate]()
        self.reads = (*POOLINGS, "last+mean") if settings.read == CHOSEN else (settings.read,)
        named = splits.named()
        taken = {name: some_rows(named[name], EXPLORED_ROWS, settings.seed) for name in ("train", "validation")}
        self.is_whole = {name: len(rows) == len(named[name]) for name, rows in taken.items()}
        explored = replace(
            splits,
            train=named["train"].take(taken["train"]),
            validation=named["validation"].take(taken["validation"]),
            test=None,
        )
        read = self.reads[0] if len(self.reads) == 1 else "last"
        as_linear = replace(settings, method="linear", train_blocks="head", depth=str(max(depths)), read=read)
        with reporter.working(f"loading {settings.backbone}"):
            self.session = open_session(explored, as_linear, device, offline=offline)
        started = time.monotonic()
        encoded = self.session.prepared.encoded
        with reporter.bar("depths", sum(each.n_tokens for each in encoded.values())) as advance:
            self.features: dict[str, DepthFeatures] = {
                name: depth_features(self.session.trunk, each, depths, lambda done: advance(done, ""))
                for name, each in encoded.items()
            }
        self.trunk_s = round(time.monotonic() - started, 3)
        self.config = self.session.prepared.classifier.decoder.config
        self.folds = False  # whether rows were held out in folds

    def explore(self) -> Candidate:
        """Try all depths and poolings; the best."""
        each_depth = self.reads if len(self.reads) == 1 else POOLINGS
        for depth in self.depths:
            for read in each_depth:
                self._try(depth, read)
        if len(self.reads) > 1:
            for depth in self._best_depths():
                self._try(depth, "last+mean")
        best = best_candidate(self.candidates)
        labels = self.session.prepared.labels
        if self.folds and are_words(labels) and best.read in ("last", "mean", "last+mean"):
            for scale in SCALES:
                self._try(best.depth, best.read, scale)
            best = best_candidate(self.candidates)
        return best

    def _best_depths(self) -> list[int]:
        depths: list[int] = []
        ranked = list(self.candidates)
        while ranked and len(depths) < BOTH_AT:
            best = best_candidate(ranked)
            ranked.remove(best)
            depths += [best.depth] if best.depth not in depths else []
        return sorted(depths)

    def _try(self, depth: int, read: str, label_words: float | None = None) -> None:
        started, prepared = time.monotonic(), self.session.prepared
        problem = self._problem(depth, read)
        self.folds = problem.folds
        target = None
        if label_words:
            rows = label_rows(prepared.classifier.decoder, prepared.predictor.tokenizer, prepared.labels)
            target = target_of(rows, problem.features, read, label_words)
        points = walk(problem, EXPLORED_STRENGTHS, target, ROUGH)
        point = points[best_place([each.score for each in points])]
        self.candidates.append(
            Candidate(
                method="linear",
                depth=depth,
                read=read,
                metric=self.settings.metric,
                value=point.score.value,
                loss=point.score.loss,
                seconds=round(time.monotonic() - started, 3),
                C=point.strength,
                label_words=label_words,
            )
        )

    def _problem(self, depth: int, read: str) -> Problem:
        prepared, device = self.session.prepared, self.session.device.torch_device
        splits = [
            SplitFeatures(
                StoredFeatures(prepared.encoded[name], pooled(features.at(depth), read), False, device),
                prepared.truth[name],
            )
            for name, features in self.features.items()
        ]
        vectors = np.concatenate([split.source.array for split in splits])  # type: ignore[attr-defined]
        return make_problem(
            prepared.classifier.config.task,
            vectors,
            splits,
            self.settings,
            prepared.label_counts,
            prepared.splits.validation_is_cut,
            EXPLORED_AXES,
        )

    def whole_splits(self, candidate: Candidate) -> dict[str, Floats]:
        """The features of a candidate for the splits all of whose rows were explored."""
        return {
            name: np.ascontiguousarray(pooled(features.at(candidate.depth), candidate.read))
            for name, features in self.features.items()
            if self.is_whole[name]
        }


def best_candidate(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate with the best score; of equal ones the first, which is the shallowest."""
    return candidates[best_place([candidate.score for candidate in candidates])]


def some_rows(examples: Examples, n: int, seed: int) -> list[int]:
    """At most about `n` rows, drawn from the seed, in order; every label that occurs is among them."""
    if len(examples) <= n:
        return list(range(len(examples)))
    order = np.random.default_rng(seed).permutation(len(examples)).tolist()
    taken, rest = order[:n], order[n:]
    sets = label_sets(examples)
    seen = {label for row in taken for label in sets[row]}
    for row in rest:
        if not seen.issuperset(sets[row]):
            taken.append(row)
            seen.update(sets[row])
    return sorted(taken)
