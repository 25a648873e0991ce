"""Two processes train as one: the same losses and weights as one process with the same batches, in double precision."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniature import labels_of, plain_settings, random_encoded
from second_process import both_make, make, second_process
from torch import Tensor

from lasttoken.classifier.classifier import Classifier
from lasttoken.core.config import Settings
from lasttoken.core.device import CPU
from lasttoken.core.errors import DivergedError, RankError
from lasttoken.core.team import Team
from lasttoken.training.depths import depth_features
from lasttoken.training.feature_cache import FeatureCache
from lasttoken.training.features import LiveFeatures, TrunkPass
from lasttoken.training.loop import Hooks, Line, State, Trainer, TrainingInputs
from lasttoken.training.resume import restore_training, save_training
from lasttoken.training.shared_trunk import SharedTrunk
from lasttoken.training.shared_updates import LeadingUpdates
from lasttoken.training.split_features import SplitFeatures
from lasttoken.training.updates import MakeUpdates, Updates


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Team, subprocess.Popen[bytes]]]:
    with second_process() as both:
        yield both


@pytest.fixture
def team(pair: tuple[Team, subprocess.Popen[bytes]]) -> Team:
    return pair[0]


LORA = {"rank": 2, "alpha": 4, "blocks": 1, "matrices": ["qkv", "up"]}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # by name: settings, and what the classifier is made of
    "plain": ({}, {}),
    "clipped, scheduled": ({"clip_norm": 0.1, "schedule": "cosine", "warmup_fraction": 0.2}, {}),
    "class weights, smoothing": ({"balance": "weights", "label_smoothing": 0.1}, {"labels": ["a", "b", "c"]}),
    "accumulated": ({"batch_size": 3, "accumulate": 3, "balance": "weights"}, {}),
    "larger than train": ({"batch_size": 64}, {}),
    "batches of one": ({"batch_size": 1, "epochs": 1}, {}),
    "row weights": ({"row_weights": True}, {"read": "mean"}),
    "all blocks": (
        {"train_blocks": "all", "checkpoint_activations": "on"},
        {"train_blocks": "all", "read": "last+mean"},
    ),
    "shards": (
        {"train_blocks": "all", "shard_weights": "on", "clip_norm": 0.1, "keep": "best"},
        {"train_blocks": "all"},
    ),
    "shards, accumulated": (
        {"train_blocks": "all", "shard_weights": "on", "accumulate": 2, "checkpoint_activations": "on"},
        {"train_blocks": "all", "read": "mean"},
    ),
    "head": ({"train_blocks": "head"}, {"train_blocks": "head"}),
    "LoRA": ({"train_blocks": "lora"}, {"lora": LORA}),
    "LoRA like the book": ({"train_blocks": "lora"}, {"lora": {**LORA, "like_book": True}}),
}


def inputs_of(
    classifier: Classifier, settings: Settings, updates: MakeUpdates, trunk: TrunkPass, row_weights: bool = False
) -> TrainingInputs:
    """21 texts to train on: with batches of 4 the last is of one, so that a process has none of its rows."""
    splits = {}
    for seed, (name, n) in enumerate({"train": 21, "validation": 9}.items()):
        encoded = random_encoded(n, seed=seed)
        weights = np.linspace(0.5, 2, n, dtype=np.float32) if row_weights else None
        source = (
            trunk.source(encoded, name) if classifier.n_frozen is not None else LiveFeatures(encoded, classifier, CPU)
        )
        splits[name] = SplitFeatures(source, labels_of(encoded, len(classifier.config.labels)), weights)
    return TrainingInputs(splits, settings, CPU, make_updates=updates)


def trained(
    classifier: Classifier, settings: Settings, updates: MakeUpdates = Updates, row_weights: bool = False
) -> tuple[list[float], dict[str, Tensor], list[Line]]:
    """The running loss after each step, the weights after the training, and its history."""
    losses: list[float] = []
    trunk = TrunkPass(classifier, CPU, cache=None, say=pytest.fail)
    trainer = Trainer(classifier, inputs_of(classifier, settings, updates, trunk, row_weights))
    trainer.hooks = Hooks(on_step=lambda state: losses.append(state.loss_sum))
    history = trainer.run().history
    return losses, {name: each.detach().clone() for name, each in classifier.named_parameters()}, history


@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one(team: Team, name: str) -> None:
    changes, head = CASES[name]
    row_weights = bool(changes.get("row_weights"))
    settings = plain_settings(**{key: value for key, value in changes.items() if key != "row_weights"})
    facts = {"dtype": "float64", "head": head}
    alone, shared = both_make(team, facts)
    for each in (alone, together := make(facts)):
        each.checkpoints_activations = settings.checkpoint_activations == "on"
    losses, weights, history = trained(alone, settings, row_weights=row_weights)
    ours, our_weights, our_history = trained(together, settings, partial(LeadingUpdates, shared), row_weights)
    assert ours == pytest.approx(losses, abs=1e-9)
    start = dict(make(facts).named_parameters())
    assert any((weights[key] - start[key]).abs().max() > 1e-4 for key in weights)
    for key, parameter in our_weights.items():
        torch.testing.assert_close(parameter, weights[key], rtol=0, atol=1e-9, msg=key)
    for line, theirs in zip(our_history, history, strict=True):
        assert {k: v for k, v in line.items() if k != "evaluation_s"} == pytest.approx(
            {k: v for k, v in theirs.items() if k != "evaluation_s"}, abs=1e-6
        )


def test_losses_in_single_precision(team: Team) -> None:
    facts = {"dtype": "float32", "head": {"labels": ["a", "b", "c"]}}
    alone, shared = both_make(team, facts)
    settings = plain_settings(epochs=4, clip_norm=1.0)
    losses, _, _ = trained(alone, settings)
    ours, _, _ = trained(make(facts), settings, partial(LeadingUpdates, shared))
    assert ours == pytest.approx(losses, abs=1e-5)


@pytest.mark.parametrize("blocks", ["1", "all"])
def test_a_training_of_two_is_resumed_by_one_and_the_other_way_round(team: Team, blocks: str, tmp_path: Path) -> None:
    facts: dict[str, Any] = {"dtype": "float64", "head": {"train_blocks": blocks}}
    settings, saved = plain_settings(epochs=3, train_blocks=blocks), tmp_path / "resume.safetensors"
    settings = replace(settings, shard_weights="on" if blocks == "all" else "auto")
    whole, shared = both_make(team, facts)
    _, expected, _ = trained(whole, settings)

    class StopError(Exception):
        pass

    def save_at_7(trainer: Trainer) -> None:
        if trainer.state.step == 7:
            save_training(trainer, saved, "f")
            raise StopError

    for first, second in ((Updates, partial(LeadingUpdates, shared)), (partial(LeadingUpdates, shared), Updates)):
        for updates, resumes in ((first, False), (second, True)):
            classifier = make(facts)
            trunk = TrunkPass(classifier, CPU, cache=None, say=pytest.fail)
            trainer = Trainer(classifier, inputs_of(classifier, settings, updates, trunk))
            if resumes:
                restore_training(trainer, saved, "f")
                trainer.run()
            else:
                trainer.hooks, trainer.checkpoint_every_s = Hooks(save=save_at_7), 0
                with pytest.raises(StopError):
                    trainer.run()
        for name, parameter in classifier.named_parameters():
            torch.testing.assert_close(parameter.detach(), expected[name], rtol=0, atol=1e-9, msg=name)


def test_each_process_keeps_a_part_of_the_weights_and_of_the_optimizer(team: Team) -> None:
    facts: dict[str, Any] = {"dtype": "float32", "head": {"train_blocks": "all"}}
    classifier, shared = both_make(team, facts)
    settings = plain_settings(epochs=1, train_blocks="all", shard_weights="on")
    trunk, kept = TrunkPass(classifier, CPU, cache=None, say=pytest.fail), []
    trainer = Trainer(classifier, inputs_of(classifier, settings, partial(LeadingUpdates, shared), trunk))

    def look(state: State) -> None:
        held = [*trainer.updates.parameters.values(), *(m.exp_avg for m in trainer.updates.optimizer.moments.values())]
        kept.append(sum(tensor.to_local().numel() for tensor in held))  # type: ignore[attr-defined]

    trainer.hooks = Hooks(on_step=look)
    trainer.run()
    whole = 2 * classifier.n_trained()
    assert kept[-1] == pytest.approx(whole / 2, rel=0.02)


def test_a_loss_that_is_not_finite_ends_the_training_of_both(team: Team) -> None:
    facts: dict[str, Any] = {"dtype": "float32"}
    classifier, shared = both_make(team, facts)
    with pytest.raises(DivergedError, match="learning rate"):
        trained(classifier, plain_settings(learning_rate=1e30, epochs=9), partial(LeadingUpdates, shared))
    ours, _, _ = trained(make(facts), plain_settings(), partial(LeadingUpdates, shared))  # the other one goes on
    assert np.isfinite(ours).all()


@pytest.mark.parametrize("kind", ["features", "one vector a text", "depths"])
def test_a_cache_filled_by_two_is_that_of_one(team: Team, kind: str, tmp_path: Path) -> None:
    facts = {"dtype": "float32", "head": {"train_blocks": "1" if kind == "features" else "head"}}
    encoded = random_encoded(160, 32, seed=5)
    classifier, shared = both_make(team, facts)
    entries = []
    for folder, with_team in (("one", None), ("two", shared)):
        trunk = TrunkPass(classifier, CPU, cache=FeatureCache(folder=tmp_path / folder), say=pytest.fail)
        trunk.shared = with_team
        done: list[int] = []
        if kind == "depths":
            depth_features(trunk, encoded, [1, 2], done.append)
        else:
            trunk.source(encoded, "train", done.append)
        assert sum(done) == encoded.n_tokens
        entries.append(
            {path.relative_to(tmp_path / folder): path.read_bytes() for path in tmp_path.glob(f"{folder}/*/*")}
        )
    assert entries[0] == entries[1]
    assert len(entries[0]) == 2


def test_features_in_memory_and_of_another_machine(team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts: dict[str, Any] = {"dtype": "float32"}
    classifier, shared = both_make(team, facts)
    encoded = random_encoded(160, 32, seed=6)

    def source(cache: FeatureCache | None, with_team: SharedTrunk | None) -> Any:
        trunk = TrunkPass(classifier, CPU, cache=cache, say=pytest.fail)
        trunk.shared = with_team
        return trunk.source(encoded, "train")

    expected, _ = source(None, None).batch(range(160))
    in_memory, _ = source(None, shared).batch(range(160))
    run = SharedTrunk.run
    monkeypatch.setattr(
        SharedTrunk, "run", lambda self, work, facts, _, progress: run(self, work, facts, None, progress)
    )
    unseen, _ = source(FeatureCache(folder=tmp_path), shared).batch(range(160))
    assert torch.equal(in_memory, expected)
    assert torch.equal(unseen, expected)


def test_a_process_that_is_killed_leaves_no_features(
    pair: tuple[Team, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """The last test of the file: it ends the second process."""
    team, process = pair
    classifier, shared = both_make(team, {"dtype": "float32"})
    trunk = TrunkPass(classifier, CPU, cache=FeatureCache(folder=tmp_path), say=pytest.fail)
    trunk.shared, done = shared, list[int]()

    def kill_at_once(n_tokens: int) -> None:
        done.append(n_tokens)
        process.kill()
        process.wait()

    with pytest.raises(RankError, match="process 1"):
        trunk.source(random_encoded(400, 32, seed=7), "train", kill_at_once)
    assert done
    assert not list(tmp_path.iterdir())
    assert not team.is_open
