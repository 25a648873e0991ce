"""Gradient accumulation against larger batches: the same weights in double precision, whatever is left over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from miniature import classifier_of, labels_of, plain_settings, random_encoded, random_gpt, trainer_of
from torch import Tensor

from lasttoken.core.config import Settings
from lasttoken.core.device import CPU
from lasttoken.core.resolve import resolve
from lasttoken.training.accumulation import micro_batches
from lasttoken.training.features import TrunkPass
from lasttoken.training.loop import (
    Hooks,
    Line,
    Trainer,
    TrainingInputs,
    learning_rate,
)
from lasttoken.training.split_features import SplitFeatures


def trained(settings: Settings, n_train: int, row_weights: bool = False) -> tuple[dict[str, Tensor], list[Line]]:
    """The weights after a training in double precision, and its history."""
    gpt = random_gpt(n_embd=16, n_layer=2, dtype=torch.float64)
    classifier = classifier_of(gpt, train_blocks=settings.train_blocks, seed=settings.seed)
    trunk, splits = TrunkPass(classifier, CPU, cache=None, say=pytest.fail), {}
    for seed, (name, n) in enumerate({"train": n_train, "validation": 9}.items()):
        encoded = random_encoded(n, seed=seed)
        weights = np.linspace(0.5, 2, n, dtype=np.float32) if row_weights else None
        splits[name] = SplitFeatures(trunk.source(encoded, name), labels_of(encoded), weights)
    trainer = Trainer(classifier, TrainingInputs(splits, settings, CPU))
    history = trainer.run().history
    return {name: parameter.detach() for name, parameter in classifier.named_parameters()}, history


@pytest.mark.parametrize("n_train", [24, 23, 22, 17])
@pytest.mark.parametrize(
    "changes",
    [{}, {"clip_norm": 0.1, "schedule": "cosine"}, {"train_blocks": "all"}, {"balance": "weights"}, {"row_weights": 1}],
    ids=str,
)
def test_n_batches_of_b_are_one_batch_of_n_times_b(n_train: int, changes: dict[str, Any]) -> None:
    given = {name: value for name, value in changes.items() if name != "row_weights"}
    together, history = trained(plain_settings(batch_size=6, **given), n_train, "row_weights" in changes)
    apart, micro_history = trained(
        plain_settings(batch_size=2, accumulate=3, **given), n_train, "row_weights" in changes
    )
    assert history[0]["train_loss"] - history[-1]["train_loss"] != 0
    for ours, theirs in zip(micro_history, history, strict=True):
        assert {name: value for name, value in ours.items() if name != "evaluation_s"} == pytest.approx(
            {name: value for name, value in theirs.items() if name != "evaluation_s"}, abs=1e-9
        )
    for name, parameter in apart.items():
        torch.testing.assert_close(parameter, together[name], rtol=0, atol=1e-9, msg=name)


def test_batches_left_over_are_smaller_updates_in_the_book_s_recipe_only() -> None:
    pass_of_five = [[0], [1], [2], [3], [4]]
    shares = {
        recipe: [
            batch.share for batch in micro_batches(pass_of_five, 4, fixed_shares=resolve(recipe).handling.fixed_shares)
        ]
        for recipe in ("default", "book")
    }
    assert shares == {"default": [0.25, 0.25, 0.25, 0.25, 1.0], "book": [0.25] * 5}


def test_the_schedule_and_the_steps_count_updates() -> None:
    rates: list[float] = []
    settings = plain_settings(accumulate=2, schedule="cosine", warmup_fraction=0.25, eval_every=2)
    trainer = trainer_of(settings)  # 22 rows: 6 batches, 3 updates in each of 2 epochs
    trainer.hooks = Hooks(on_step=lambda state: rates.append(trainer.optimizer.rate))
    history = trainer.run().history
    assert trainer.total_steps == len(rates) == 6
    assert rates == [learning_rate(step, 6, settings) for step in range(6)]
    lines = [(line["kind"], line["step"], line["epoch"], line["examples_seen"]) for line in history]
    assert lines == [
        ("start", 0, 0.0, 0),
        ("step", 1, pytest.approx(2 / 6, abs=1e-6), 8),
        ("step", 3, 1.0, 22),
        ("epoch", 3, 1.0, 22),
        ("step", 5, pytest.approx(1 + 4 / 6, abs=1e-6), 38),
        ("epoch", 6, 2.0, 44),
    ]


def test_the_chapter_s_evaluations_count_batches() -> None:
    history = trainer_of(plain_settings(accumulate=4, eval_every=3, eval_batches=1, epochs=1)).run().history
    assert [(line["kind"], line["step"], line["examples_seen"]) for line in history] == [
        ("start", 0, 0),
        ("step", 0, 4),  # before the first update, as in the script
        ("step", 1, 16),
        ("epoch", 2, 22),
    ]
