"""The book recipe's figures against a plain rewrite of chapter 6's training script, on equal random weights.

The rewrite is written the way the chapter works (torch's loaders and generator, every text padded, position -1 of a
full forward pass by transformers), in words of our own. It measures where the chapter does: before training, at its
steps 0, 50, 100, …, after each epoch, and at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniature import classifier_of, labels_of, random_encoded, random_gpt, write_backbone
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import GPT2Model

from lasttoken.classifier.encoding import Encoded
from lasttoken.core.device import CPU
from lasttoken.core.resolve import resolve
from lasttoken.evaluation.metrics import compute_metrics
from lasttoken.evaluation.tasks.single_label import log_softmax
from lasttoken.training.feature_cache import FeatureCache
from lasttoken.training.features import TrunkPass
from lasttoken.training.loop import Trainer, TrainingInputs
from lasttoken.training.split_features import SplitFeatures

LONGEST, LEARNING_RATE, SEED = 12, 5e-5, 123
SIZES = {"train": 437, "validation": 61, "test": 90}  # 54 full batches and 5 rows over; 108 steps in two epochs
Loader = DataLoader[tuple[Tensor, ...]]


def padded(n: int, end_of_text_id: int, seed: int) -> tuple[Encoded, NDArray[np.int64]]:
    """Texts of different lengths filled up to LONGEST on the right, and labels to learn of their first tokens."""
    ragged = random_encoded(n, LONGEST, vocab_size=end_of_text_id, seed=seed)
    ids = np.full((n, LONGEST), end_of_text_id, dtype=np.int32)
    for row, (start, length) in enumerate(zip(ragged.offsets, ragged.lengths, strict=False)):
        ids[row, :length] = ragged.token_ids[start : start + length]
    uniform = Encoded(ids.ravel(), np.full(n, LONGEST), np.zeros(n, dtype=np.bool_), 0)
    return uniform, labels_of(ragged)


@dataclass
class Chapter:
    """Chapter 6's script: `measured` is filled in the order in which the script prints."""

    backbone: GPT2Model
    head: nn.Linear
    loaders: dict[str, Loader]
    measured: list[tuple[str, dict[str, float]]] = field(default_factory=list)

    def logits(self, ids: Tensor) -> Tensor:
        hidden: Tensor = self.backbone(ids).last_hidden_state
        return self.head(hidden[:, -1, :])  # type: ignore[no-any-return]

    @torch.no_grad()
    def accuracy(self, name: str, n_batches: int) -> float:
        right, seen = 0, 0
        for number, (ids, label_ids) in enumerate(self.loaders[name]):
            if number == n_batches:
                break
            right += int((self.logits(ids).argmax(-1) == label_ids).sum())
            seen += len(ids)
        return right / seen

    @torch.no_grad()
    def loss(self, name: str, n_batches: int) -> float:
        total, n_batches = 0.0, min(n_batches, len(self.loaders[name]))
        for number, (ids, label_ids) in enumerate(self.loaders[name]):
            if number == n_batches:
                break
            total += nn.functional.cross_entropy(self.logits(ids), label_ids).item()
        return total / n_batches

    def run(self, n_epochs: int) -> int:
        """Train, and return the chapter's number of the last step, counted from 0."""
        torch.manual_seed(SEED)
        first = {f"{name}_accuracy": self.accuracy(name, 10) for name in SIZES}
        self.measured.append(("start", first | {f"{name}_loss": self.loss(name, 5) for name in SIZES}))
        torch.manual_seed(SEED)
        trained = [p for p in [*self.backbone.parameters(), *self.head.parameters()] if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.1)
        steps = -1
        for _ in range(n_epochs):
            for ids, label_ids in self.loaders["train"]:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(self.logits(ids), label_ids)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                steps += 1
                if steps % 50 == 0:
                    self.measured.append(("step", {f"{n}_loss": self.loss(n, 5) for n in ("train", "validation")}))
            self.measured.append(("epoch", {f"{n}_accuracy": self.accuracy(n, 5) for n in ("train", "validation")}))
        return steps


def chapter_of(folder: Path, data: dict[str, tuple[Encoded, NDArray[np.int64]]]) -> Chapter:
    """Only the last block, the final norm and the new head train; incomplete batches of train are dropped."""
    backbone = GPT2Model.from_pretrained(folder)
    backbone.train(False)
    for parameter in backbone.parameters():
        parameter.requires_grad = False
    torch.manual_seed(SEED)
    head = nn.Linear(backbone.config.n_embd, 2)
    for module in (backbone.h[-1], backbone.ln_f):
        for parameter in module.parameters():
            parameter.requires_grad = True
    loaders = {}
    for name, (encoded, label_ids) in data.items():
        ids = torch.from_numpy(encoded.token_ids.reshape(-1, LONGEST).astype(np.int64))
        dataset = TensorDataset(ids, torch.from_numpy(label_ids))
        loaders[name] = DataLoader(dataset, batch_size=8, shuffle=name == "train", drop_last=name == "train")
    return Chapter(backbone, head, loaders)


def test_the_book_recipe_measures_what_the_chapters_loop_measures(tmp_path: Path) -> None:
    gpt = random_gpt(n_positions=LONGEST, n_embd=24, n_layer=2, n_head=3)
    end_of_text_id = gpt.config.vocab_size - 1
    data = {name: padded(n, end_of_text_id, seed) for seed, (name, n) in enumerate(SIZES.items())}
    settings = resolve("book", {"epochs": 2})
    with torch.random.fork_rng():
        chapter = chapter_of(write_backbone(tmp_path / "backbone", gpt), data)
        last_step = chapter.run(settings.n_epochs)

    classifier = classifier_of(gpt, read=settings.read, train_blocks=settings.train_blocks, seed=settings.seed)
    trunk = TrunkPass(classifier, CPU, cache=FeatureCache(10**9), say=pytest.fail)
    splits = {
        name: SplitFeatures(trunk.source(encoded, name), label_ids) for name, (encoded, label_ids) in data.items()
    }
    trainer = Trainer(classifier, TrainingInputs(splits, settings, CPU))
    outcome = trainer.run()

    assert [line["kind"] for line in outcome.history] == [kind for kind, _ in chapter.measured]
    assert [line["step"] for line in outcome.history if line["kind"] == "step"] == [1, 51, 101]
    for line, (kind, expected) in zip(outcome.history, chapter.measured, strict=True):
        assert {name: line[name] for name in expected} == pytest.approx(expected, abs=1e-5), (kind, line["step"])
        assert not {name for name in line if name.endswith(("_loss", "_accuracy"))} - expected.keys()
    assert outcome.kept_step == last_step + 1 == 108

    for name, (encoded, label_ids) in data.items():
        ids = torch.from_numpy(encoded.token_ids.reshape(-1, LONGEST).astype(np.int64))
        with torch.no_grad():
            plain = chapter.logits(ids).argmax(-1).numpy()
        logits = trainer.logits(splits[name].source)
        ours = compute_metrics(label_ids, ["ham", "spam"], log_probs=log_softmax(logits))
        assert ours.accuracy == float((plain == label_ids).mean())
    assert_moved(outcome.history)


def assert_moved(history: list[dict[str, Any]]) -> None:
    losses = [line["train_loss"] for line in history if line["kind"] == "step"]
    assert abs(losses[-1] - losses[0]) > 0.02, "a training that does not move compares nothing"
