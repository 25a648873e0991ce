"""What trials share: one pass of the trunk over their rows, and a classifier for each trial on these features.

    rows of all trials ─► trunk, once ─► features after each cut ─┬─► trial: copies of its blocks, a head ─► trained
                                                                  └─► trial: another depth …         ─► scored

Only the blocks that a trial trains are copied; nothing is loaded again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.linear import Linear
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.lora import lora_config
from lasttoken.core.config import PADDED, Settings
from lasttoken.core.device import Device
from lasttoken.core.progress import Reporter
from lasttoken.data.splitting.splits import Splits
from lasttoken.evaluation.tasks.task import Task
from lasttoken.runs.search.rows import TrialRows
from lasttoken.runs.search.space import Space, trained_blocks
from lasttoken.runs.session import Session, open_session
from lasttoken.training.cuts import CutFeatures, cut_features
from lasttoken.training.depths import pooled
from lasttoken.training.features import FeatureSource, LiveFeatures, StoredFeatures
from lasttoken.training.folded import linear_heads
from lasttoken.training.held_out import Part, Score, best_place, calibrated_losses, score_of
from lasttoken.training.linear import ROUGH
from lasttoken.training.linear_training import problem_of, set_head, walk
from lasttoken.training.loop import Hooks, Trainer, TrainingInputs
from lasttoken.training.pool import Pool
from lasttoken.training.split_features import SplitFeatures, tail_logits

SEEN_IN_TRAINING = 8  # held-out rows that the loop evaluates at its end, where nothing depends on it

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]


class StoppedError(Exception):
    """A trial was stopped before its end."""


@dataclass(frozen=True)
class Scored:
    """What a trial gave on the rows that were held out from it."""

    score: Score
    losses: NDArray[np.float64]  # of each row, in the order of `TrialRows.scored`


class Workbench:
    """Trains the trials of a search on rows whose features are in memory."""

    def __init__(
        self, space: Space, rows: TrialRows, session: Session, features: CutFeatures, label_counts: Rows | None
    ) -> None:
        """`session`: of these rows, with all blocks that any trial uses. See `open_workbench`."""
        self.space, self.rows, self.features, self.label_counts = space, rows, features, label_counts
        self.session = session
        self.truth = session.prepared.truth["train"]
        self.labels_differ = len(np.unique(self.truth, axis=0)) > 1

    @property
    def device(self) -> Device:
        """The device that computes."""
        return self.session.device

    @property
    def task(self) -> Task:
        """The task of the rows."""
        return self.session.prepared.classifier.config.task

    def run(
        self,
        settings: Settings,
        report: Callable[[int, Score], bool] = lambda step, score: False,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Scored | None:
        """Train with these settings step by step; None: `report`, called with each step's score, ended the trial.

        Raises:
            StoppedError: `should_stop` answered yes.
            DivergedError: a loss is not finite.
        """
        if settings.method == "linear":
            return self._run_linear(settings)
        logits: list[Floats] = []
        for step, part in enumerate(self.rows.steps):
            if not self.rows.in_folds:
                logits.clear()
            logits.append(self._train(settings, part, should_stop))
            scored = self._scored(np.concatenate(logits), settings, step + 1)
            if step + 1 < len(self.rows.steps) and report(step, scored.score):
                return None
        return scored

    def _scored(self, logits: Floats, settings: Settings, n_steps: int) -> Scored:
        """The score after so many steps."""
        steps = self.rows.steps[:n_steps] if self.rows.in_folds else self.rows.steps[n_steps - 1 : n_steps]
        truth = self.truth[np.concatenate([step.scored for step in steps])]
        score = score_of(self.task, logits, truth, settings.metric)
        return Scored(score, calibrated_losses(self.task, logits, truth))

    # ------------------------------------------------------------------ linear heads

    def _run_linear(self, settings: Settings) -> Scored:
        parts = list(self.rows.steps if self.rows.in_folds else self.rows.steps[-1:])
        vectors = pooled(self.features.vectors[settings.n_blocks or self.space.n_blocks], settings.read)
        features = np.ascontiguousarray(vectors)
        problem = problem_of(self.task, features, self.truth, parts, settings, self.label_counts)
        points = walk(problem, tolerance=ROUGH)
        point = points[best_place([each.score for each in points])]
        return self._scored(point.logits, settings, len(self.rows.steps))

    # ------------------------------------------------------------------ tails

    def _train(self, settings: Settings, part: Part, should_stop: Callable[[], bool]) -> Floats:
        """Train a tail on the fitted rows; the logits of the scored ones."""
        classifier = self.classifier(settings)
        pool = Pool.whole([self._source(classifier, settings)])
        seen = part.scored if settings.keep == "best" else part.scored[:SEEN_IN_TRAINING]
        splits = {
            "train": SplitFeatures(pool.take(part.fitted), self.truth[part.fitted]),
            "validation": SplitFeatures(pool.take(seen), self.truth[seen]),
        }
        scored = pool.take(part.scored)
        inputs = TrainingInputs(splits, replace(settings, drop_last=False), self.device, self.label_counts)
        if settings.start_head == "linear":
            whole = {**splits, "validation": SplitFeatures(scored, self.truth[part.scored])}
            set_head(classifier, linear_heads(classifier, replace(inputs, splits=whole), in_folds=False).parts[0])
        trainer = Trainer(classifier, inputs, Hooks(should_stop=should_stop), evaluates=False)
        if trainer.run().stopped == "interrupted":
            raise StoppedError
        return tail_logits(classifier, scored, self.device)

    def _source(self, classifier: Classifier, settings: Settings) -> FeatureSource:
        """The features of all rows for the tail of this classifier."""
        encoded = self.features.encoded
        if classifier.n_frozen is None:
            return LiveFeatures(encoded, classifier, self.device)
        if classifier.keeps_tokens:
            return self.features.source(classifier.n_frozen, self.device.torch_device)
        vectors = np.ascontiguousarray(pooled(self.features.vectors[classifier.n_frozen], settings.read))
        return StoredFeatures(encoded, vectors, False, self.device.torch_device)

    def classifier(self, settings: Settings) -> Classifier:
        """A new classifier with these settings, whose frozen blocks are those of the session."""
        whole, depth = self.session.prepared.classifier, settings.n_blocks or self.space.n_blocks
        trained = {"head": 0, "all": depth}.get(settings.train_blocks, trained_blocks(settings, self.space.n_blocks))
        assert trained is not None
        shares = settings.train_blocks != "all"
        decoder = shortened(whole.decoder, depth, depth - trained, shares_embeddings=shares)
        config = replace(
            whole.config,
            read=settings.read,
            train_blocks=settings.train_blocks,
            lora=lora_config(settings, decoder.config),
            int8_trunk=False,
        )
        return Classifier(decoder, config, settings.seed).to(self.device.torch_device)


def shortened(decoder: Decoder, depth: int, n_frozen: int, *, shares_embeddings: bool = True) -> Decoder:
    """The first `depth` blocks of a decoder as one of their own; the first `n_frozen` are the same modules."""
    blocks = decoder.blocks
    shared = [*blocks[:n_frozen], *blocks[depth:], *(decoder.embeddings if shares_embeddings else [])]
    shared += [decoder.lm_head] if decoder.lm_head is not None else []
    memo: dict[int, Any] = {id(module): module for module in shared}
    memo[id(decoder.quantized)] = {}
    copied = copy.deepcopy(decoder, memo)
    copied.config = decoder.config.cut_to(depth)
    block_list = copied.get_submodule(decoder.BLOCKS)
    assert isinstance(block_list, nn.ModuleList)
    del block_list[depth:]
    for block in copied.blocks[n_frozen:]:
        for module in block.modules():
            if isinstance(module, Linear):
                module.unpack()
    return copied


def open_workbench(
    space: Space,
    rows: TrialRows,
    session: Session,
    *,
    label_counts: Rows | None,
    offline: bool,
    reporter: Reporter,
) -> Workbench:
    """Run the trunk over the rows of all trials; `session` is the default run's, which says how texts are read."""
    cuts = [cut for cut in space.cuts if cut >= 0]
    tail = space.defaults.get("tail")
    depths = set(space.depths)
    if tail is not None and tail.train_blocks == "head":
        depths.add(tail.n_blocks or space.n_blocks)
        cuts = []
    has_cuts = any("frozen" in parameters for parameters in space.parameters.values())
    deepest = space.n_blocks if has_cuts else _deepest(space, depths)
    main, config = session.settings, session.prepared.classifier.config
    read = main.read if main.read in ("first", *PADDED) else "last"
    as_linear = replace(
        main, method="linear", train_blocks="head", depth=str(deepest), read=read, max_length=config.max_length
    )
    opened = open_session(
        Splits(rows.examples, None, None), as_linear, session.device, offline=offline, reporter=Reporter()
    )
    prepared, encoded = opened.prepared, opened.prepared.encoded["train"]
    with reporter.bar("features of the trials", encoded.n_tokens) as advance:
        features = cut_features(
            prepared.classifier, encoded, session.device, cuts, depths, lambda done: advance(done, "")
        )
    return Workbench(space, rows, opened, features, label_counts)


def _deepest(space: Space, depths: set[int]) -> int:
    """The most blocks that any trial uses."""
    return max([*depths, *(settings.n_blocks or space.n_blocks for settings in space.defaults.values())])
