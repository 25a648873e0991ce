"""A training that died at any moment goes on from its last saved state as if nothing had happened, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from miniature import plain_settings, trainer_of, weights_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lasttoken.core.config import Settings
from lasttoken.core.errors import RunError
from lasttoken.training.loop import Hooks, Line, State, Trainer
from lasttoken.training.resume import restore_training, save_training

KINDS: dict[str, dict[str, Any]] = {
    "last, by epochs": {},
    "head only": {"train_blocks": "head", "keep": "best"},
    "LoRA": {"train_blocks": "lora", "keep": "best"},
    "everything": {"train_blocks": "all", "drop_last": True},
    "best, evaluated inside epochs": {"keep": "best", "eval_every": 2, "learning_rate": 2e-2},
    "patience": {"keep": "best", "patience": 2, "eval_every": 2, "learning_rate": 0.1, "epochs": 9},
    "accumulated": {"accumulate": 2, "eval_every": 3, "eval_batches": 2, "batch_size": 4},
    "the chapter's evaluations": {"eval_every": 5, "eval_batches": 2, "drop_last": True},
    "warm-up, cosine, clipping": {"schedule": "cosine", "warmup_fraction": 0.3, "clip_norm": 0.5},
}


class ProcessDiedError(Exception):
    """What the process of a test dies of."""


def figures(history: list[Line]) -> list[Line]:
    return [{name: value for name, value in line.items() if name != "evaluation_s"} for line in history]


def run_to_end(trainer: Trainer) -> tuple[dict[str, Tensor], list[Line], tuple[int, str | None]]:
    outcome = trainer.run()
    return weights_of(trainer), figures(outcome.history), (outcome.kept_step, outcome.stopped)


def die_at(event: int, settings: Settings, path: Path) -> bool:
    """Train until the given event (a step, an evaluation or a save); False: there was no such event any more."""
    events = iter(range(event + 1))

    def tick(*_: object) -> None:
        if next(events) == event:
            raise ProcessDiedError

    def save(trainer: Trainer) -> None:
        save_training(trainer, path, "this training")
        tick()

    trainer = trainer_of(settings, Hooks(on_line=tick, on_step=tick, save=save))
    if path.exists():
        restore_training(trainer, path, "this training")
    try:
        trainer.run()
    except ProcessDiedError:
        return True
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_dying_at_every_step_evaluation_and_save_changes_nothing(kind: str, tmp_path: Path) -> None:
    settings = plain_settings(**{"batch_size": 5, **KINDS[kind]})
    weights, history, end = run_to_end(trainer_of(settings))
    assert end[1] == ("early" if "patience" in KINDS[kind] else None)
    event = 0
    while die_at(event, settings, path := tmp_path / f"{event}.safetensors"):
        trainer = trainer_of(settings)
        if path.exists():
            restore_training(trainer, path, "this training")
        again, lines, how = run_to_end(trainer)
        assert (lines, how) == (history, end), event
        assert all(torch.equal(again[name], weights[name]) for name in weights), event
        event += 1
    assert event >= 2 * history[-1]["step"] + len(history) - 1


def test_dying_again_and_again_still_ends_the_same(tmp_path: Path) -> None:
    settings = plain_settings(**KINDS["best, evaluated inside epochs"])
    weights, history, end = run_to_end(trainer_of(settings))
    path = tmp_path / "resume.safetensors"
    deaths = 0
    while die_at(5, settings, path):
        deaths += 1
    assert deaths > 4
    trainer = trainer_of(settings)
    restore_training(trainer, path, "this training")
    again, lines, how = run_to_end(trainer)
    assert (lines, how) == (history, end)
    assert all(torch.equal(again[name], weights[name]) for name in weights)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The state of a training after five steps."""
    path = tmp_path / "resume.safetensors"

    def save(trainer: Trainer) -> None:
        if trainer.state.step == 5:
            save_training(trainer, path, "this training")

    trainer_of(plain_settings(keep="best"), Hooks(save=save)).run()
    return path


def test_a_state_holds_everything_by_name(saved: Path) -> None:
    trainer = trainer_of(plain_settings(keep="best"))
    restore_training(trainer, saved, "this training")
    names = set(trainer.parameters)
    assert set(trainer.best) == names
    kinds = ("parameter", "best", "exp_avg", "exp_avg_sq", "updates")
    assert set(load_file(saved)) == {"order", *(f"{kind}.{name}" for kind in kinds for name in names)}
    assert trainer.state.step == 5
    assert trainer.state.done_batches == 5
    assert trainer.state.examples_seen == 20
    assert sorted(trainer.state.permutation) == list(range(22))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [cut, empty, remove])
def test_a_torn_file_is_named_and_nothing_is_restored(damage: Callable[[Path], None], saved: Path) -> None:
    damage(saved)
    trainer = trainer_of(plain_settings())
    before = weights_of(trainer)
    with pytest.raises(RunError, match=r"resume\.safetensors.*--resume"):
        restore_training(trainer, saved, "this training")
    assert trainer.state == State()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(trainer).items())


def test_a_state_of_another_training_is_rejected(saved: Path) -> None:
    with pytest.raises(RunError, match="belongs to other data, settings or weights"):
        restore_training(trainer_of(plain_settings()), saved, "another training")


def test_a_file_of_tensors_that_is_no_state_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "resume.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(RunError, match="belongs to other data"):
        restore_training(trainer_of(plain_settings()), path, "this training")


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """A state file with its metadata changed."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    change(metadata)
    save_file(load_file(path), path, metadata)


@pytest.mark.parametrize(
    "change",
    [
        lambda metadata: metadata.pop("state"),
        lambda metadata: metadata.update(state="{"),
        lambda metadata: metadata.update(state="[]"),
        lambda metadata: metadata.update(state='{"step": "five"}'),
        lambda metadata: metadata.update(state='{"permutation": 3}'),
        lambda metadata: metadata.update(sums="[1]"),
        lambda metadata: metadata.update(sums="{}"),
    ],
)
def test_metadata_that_is_none_is_one_sentence(change: Callable[[dict[str, Any]], object], saved: Path) -> None:
    rewritten(saved, change)
    with pytest.raises(RunError, match=r"resume\.safetensors"):
        restore_training(trainer_of(plain_settings()), saved, "this training")


def test_a_flipped_bit_in_a_state_is_found(saved: Path) -> None:
    raw = bytearray(saved.read_bytes())
    raw[-9] ^= 4
    saved.write_bytes(raw)
    trainer = trainer_of(plain_settings())
    before = weights_of(trainer)
    with pytest.raises(RunError, match=r"resume\.safetensors"):
        restore_training(trainer, saved, "this training")
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(trainer).items())


def test_a_state_of_an_earlier_version_without_sums_is_restored(saved: Path) -> None:
    rewritten(saved, lambda metadata: metadata.pop("sums"))
    trainer = trainer_of(plain_settings(keep="best"))
    restore_training(trainer, saved, "this training")
    assert trainer.state.step == 5
