"""The loop: what it repeats, what it keeps, when it evaluates, when it stops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from miniature import plain_settings, trainer_of, weights_of
from torch import Tensor

from lasttoken.core.config import Settings
from lasttoken.core.errors import DivergedError
from lasttoken.core.metric_registry import metric_choices
from lasttoken.training.loop import Hooks, Line, State, Trainer, learning_rate

N_TRAIN = 22  # of trainer_of: 6 batches of 4, the last of 2


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def figures(history: list[Line]) -> list[Line]:
    return [{name: value for name, value in line.items() if name != "evaluation_s"} for line in history]


@pytest.mark.parametrize("blocks", ["head", "1", "all"])
def test_a_seed_gives_the_same_weights_bit_for_bit_and_another_seed_others(blocks: str) -> None:
    found = []
    for seed in (5, 5, 6):
        trainer = trainer_of(plain_settings(train_blocks=blocks, seed=seed, eval_every=3, eval_batches=2))
        torch.rand(seed)  # what else draws from torch's generator is no matter
        history = trainer.run().history
        found.append((weights_of(trainer), figures(history)))
    assert equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert not equal(found[0][0], found[2][0])


# ------------------------------------------------------------------ evaluations


def run(settings: Settings, hooks: Hooks | None = None, **sizes: Any) -> tuple[Trainer, list[Line]]:
    trainer = trainer_of(settings, hooks, **sizes)
    return trainer, trainer.run().history


def schedule(history: list[Line]) -> list[tuple[str, int, float, int]]:
    return [(line["kind"], line["step"], line["epoch"], line["examples_seen"]) for line in history]


def test_evaluations_come_before_the_first_step_every_n_steps_from_the_first_and_after_each_epoch() -> None:
    _, history = run(plain_settings(eval_every=4))
    assert schedule(history) == [
        ("start", 0, 0.0, 0),
        ("step", 1, pytest.approx(1 / 6, abs=1e-6), 4),
        ("step", 5, pytest.approx(5 / 6, abs=1e-6), 20),
        ("epoch", 6, 1.0, 22),
        ("step", 9, 1.5, 34),
        ("epoch", 12, 2.0, 44),
    ]


def test_without_eval_every_only_epochs_are_evaluated_and_drop_last_leaves_out_what_is_over() -> None:
    _, history = run(plain_settings(drop_last=True))
    assert schedule(history) == [("start", 0, 0.0, 0), ("epoch", 5, 1.0, 20), ("epoch", 10, 2.0, 40)]


def test_a_batch_bigger_than_train_is_one_step_an_epoch() -> None:
    trainer, history = run(plain_settings(batch_size=100))
    assert [line["step"] for line in history] == [0, 1, 2]
    assert [line["examples_seen"] for line in history] == [0, N_TRAIN, 2 * N_TRAIN]
    assert trainer.total_steps == 2


def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(split, rows) of each measurement."""
    read: list[tuple[str, int]] = []
    measure = Trainer._metrics

    def measured(self: Trainer, name: str, rows: list[int]) -> Line:
        read.append((name, len(rows)))
        return measure(self, name, rows)

    monkeypatch.setattr(Trainer, "_metrics", measured)
    return read


def test_with_eval_batches_losses_are_of_m_batches_and_accuracies_first_of_twice_as_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = rows_read(monkeypatch)
    _, history = run(plain_settings(eval_every=5, eval_batches=2, epochs=1))
    start = [("train", 16), ("validation", 16), ("test", 10), ("train", 8), ("validation", 8), ("test", 8)]
    assert read == [*start, *[("train", 8), ("validation", 8)] * 3]
    assert [{name.partition("_")[2] for name in line if name.endswith(("loss", "accuracy"))} for line in history] == [
        {"loss", "accuracy"},
        {"loss"},
        {"loss"},
        {"accuracy"},
    ]


def test_without_eval_batches_all_of_validation_is_read_and_as_many_train_rows_always_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = rows_read(monkeypatch)
    _, history = run(plain_settings(epochs=1))
    assert read == [("train", 18), ("validation", 18)] * 2
    assert not any(name.startswith("test") for line in history for name in line)
    read.clear()
    run(plain_settings(epochs=1), n_train=5)
    assert read == [("train", 5), ("validation", 18)] * 2


def test_an_evaluation_draws_nothing_that_training_depends_on() -> None:
    with_, without = (run(plain_settings(eval_every=every))[0] for every in (1, 0))
    assert equal(weights_of(with_), weights_of(without))


# ------------------------------------------------------------------ weights that are kept


@pytest.mark.parametrize("eval_batches", [0, 3])
@pytest.mark.parametrize("eval_every", [0, 2])
@pytest.mark.parametrize("metric", metric_choices())
def test_the_best_weights_by_a_metric_are_kept(metric: str, eval_every: int, eval_batches: int) -> None:
    """Each evaluation's figures and weights are noted, and the best is chosen here, in its own words."""
    noted: list[tuple[float, int, dict[str, Tensor]]] = []

    def note(line: Line) -> None:
        if f"validation_{metric}" in line:
            noted.append((line[f"validation_{metric}"], line["step"], weights_of(trainer)))

    settings = plain_settings(
        keep="best", metric=metric, eval_every=eval_every, eval_batches=eval_batches, epochs=5, learning_rate=2e-2
    )
    trainer = trainer_of(settings, Hooks(on_line=note))
    outcome = trainer.run()
    assert {line["step"] for line in outcome.history if line["kind"] == "epoch"} <= {step for _, step, _ in noted}
    values = [value for value, _, _ in noted]
    assert len(set(values)) > 1
    first_best = values.index(min(values) if metric == "loss" else max(values))
    assert outcome.kept_step == noted[first_best][1]
    assert equal(weights_of(trainer), noted[first_best][2])
    assert {line["step"] for line in outcome.history if line["best"]} == {outcome.kept_step}


def test_keeping_the_last_keeps_the_last() -> None:
    seen: list[dict[str, Tensor]] = []
    trainer = trainer_of(plain_settings(keep="last", epochs=4, learning_rate=5e-2))
    trainer.hooks = Hooks(on_step=lambda state: seen.append(weights_of(trainer)))
    outcome = trainer.run()
    assert outcome.kept_step == 24
    assert equal(weights_of(trainer), seen[-1])
    assert [line["step"] for line in outcome.history if line["best"]] == [24]


@pytest.mark.parametrize("patience", [1, 3])
@pytest.mark.parametrize("eval_every", [0, 2])
def test_patience_stops_after_so_many_evaluations_without_a_better_one(patience: int, eval_every: int) -> None:
    settings = plain_settings(keep="best", patience=patience, eval_every=eval_every, epochs=40, learning_rate=0.1)
    trainer = trainer_of(settings)
    outcome = trainer.run()
    losses = [line["validation_loss"] for line in outcome.history]
    assert outcome.stopped == "early"
    assert losses.index(min(losses)) == len(losses) - 1 - patience
    best_so_far = [min(losses[: at + 1]) for at in range(len(losses) - 1)]
    waits = [at - losses.index(best) for at, best in enumerate(best_so_far)]
    assert max(waits) < patience, "it did not stop at its first chance"
    assert outcome.kept_step == outcome.history[losses.index(min(losses))]["step"]


@pytest.mark.parametrize("changes", [{}, {"eval_every": 2}, {"eval_batches": 2}, {"keep": "best"}, {"patience": 9}])
def test_a_training_without_evaluations_gives_the_same_weights(changes: dict[str, Any]) -> None:
    """It is evaluated at the end only, unless its course depends on evaluations."""
    trainers = [
        trainer_of(plain_settings(**{"keep": "last", "epochs": 3, **changes}), evaluates=e) for e in (True, False)
    ]
    whole, without = (trainer.run().history for trainer in trainers)
    assert equal(*map(weights_of, trainers))
    needs_them = bool({"keep", "patience"} & set(changes))
    assert len(without) == (len(whole) if needs_them else 1)
    assert figures(without)[-1] == figures(whole)[-1]


def test_an_evaluation_of_the_same_step_does_not_count_against_patience() -> None:
    """6 steps an epoch; the one after step 6 is made twice, by --eval-every 5 and at the end of the epoch."""
    settings = plain_settings(keep="best", patience=1, eval_every=5, epochs=2, learning_rate=1e-4)
    outcome = trainer_of(settings).run()
    assert [line["step"] for line in outcome.history].count(6) == 2
    assert outcome.stopped is None


# ------------------------------------------------------------------ the rate and the gradient


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [1.0] * 10),
        ({"warmup_fraction": 0.4}, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ({"schedule": "cosine"}, [0.5 + 0.5 * math.cos(math.pi * at / 10) for at in range(10)]),
        (
            {"schedule": "cosine", "warmup_fraction": 0.2},
            [0.5, 1.0, *(0.5 + 0.5 * math.cos(math.pi * at / 8) for at in range(8))],
        ),
    ],
    ids=["constant", "warm-up", "cosine", "warm-up and cosine"],
)
def test_the_learning_rate_over_ten_steps(changes: dict[str, Any], expected: list[float]) -> None:
    settings = plain_settings(learning_rate=1.0, **changes)
    assert [learning_rate(step, 10, settings) for step in range(10)] == pytest.approx(expected)


def test_the_optimizer_steps_with_the_scheduled_rate() -> None:
    rates: list[float] = []
    settings = plain_settings(schedule="cosine", warmup_fraction=0.25)
    trainer = trainer_of(settings)
    trainer.hooks = Hooks(on_step=lambda state: rates.append(trainer.optimizer.rate))
    history = trainer.run().history
    assert rates == [learning_rate(step, 12, settings) for step in range(12)]
    assert len(set(rates)) > 9
    assert [line["learning_rate"] for line in history[1:]] == [rates[5], rates[11]]


def gradient_norms(clip_norm: float) -> list[float]:
    norms: list[float] = []

    def note(state: State) -> None:
        gradients = [p.grad for p in trainer.parameters.values() if p.grad is not None]
        norms.append(float(torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in gradients]))))

    trainer = trainer_of(plain_settings(clip_norm=clip_norm, learning_rate=1e-9), Hooks(on_step=note))
    trainer.run()
    return norms


def test_clipping_bounds_the_norm_of_the_gradient_and_leaves_smaller_ones_alone() -> None:
    free = gradient_norms(0.0)
    limit = float(np.median(free))
    assert gradient_norms(limit) == pytest.approx([min(norm, limit) for norm in free], rel=1e-4)


def test_label_smoothing_is_of_the_training_loss_and_not_of_evaluations() -> None:
    steps, histories = [], []
    for label_smoothing in (0.0, 0.3):
        sums: list[float] = []
        hooks = Hooks(on_step=lambda state, sums=sums: sums.append(state.loss_sum))  # type: ignore[misc]
        trainer = trainer_of(plain_settings(label_smoothing=label_smoothing, learning_rate=1e-12), hooks)
        histories.append(trainer.run().history)
        steps.append(sums)
    assert all(abs(plain - smooth) > 1e-4 for plain, smooth in zip(*steps, strict=True))
    plain, smooth = ([line["validation_loss"] for line in history] for history in histories)
    assert smooth == pytest.approx(plain, rel=1e-6)


# ------------------------------------------------------------------ ends


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_rate(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[Tensor] = []
    cross_entropy = F.cross_entropy

    def broken(logits: Tensor, label_ids: Tensor, weight: Tensor | None = None, **options: Any) -> Tensor:
        losses.append(cross_entropy(logits, label_ids, weight, **options))
        return losses[-1] * value if len(losses) == 8 else losses[-1]

    monkeypatch.setattr(F, "cross_entropy", broken)
    trainer = trainer_of(plain_settings(learning_rate=3e-3))
    with pytest.raises(DivergedError, match=rf"^the loss of step 8 is {value} at learning rate 0.003; try --l\S+ 0"):
        trainer.run()
    assert trainer.state.step == 7


@pytest.mark.parametrize("changes", [{"epochs": 1, "batch_size": 100}, {"epochs": 3}], ids=["last step", "any step"])
def test_a_learning_rate_that_blows_the_weights_up_is_an_error_even_in_the_last_step(changes: dict[str, Any]) -> None:
    with pytest.raises(DivergedError, match="learning rate"):
        trainer_of(plain_settings(learning_rate=1e38, **changes)).run()


@pytest.mark.parametrize("stop_at", [1, 5, 6, 7, 12])
@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_wish_to_stop_ends_after_the_step_and_evaluates(stop_at: int, keep: str) -> None:
    steps: list[int] = []
    after: dict[int, dict[str, Tensor]] = {}

    def note(state: State) -> None:
        steps.append(state.step)
        after[state.step] = weights_of(trainer)

    hooks = Hooks(on_step=note, should_stop=lambda: len(steps) == stop_at)
    trainer = trainer_of(plain_settings(keep=keep), hooks)
    outcome = trainer.run()
    assert outcome.stopped == "interrupted"
    assert steps == list(range(1, stop_at + 1))
    assert outcome.history[-1]["step"] == stop_at
    assert outcome.history[-1]["validation_loss"] is not None
    if keep == "last":
        assert outcome.kept_step == stop_at
        assert equal(weights_of(trainer), after[stop_at])
    else:
        best = min(outcome.history, key=lambda line: float(line["validation_loss"]))
        assert outcome.kept_step == best["step"]
        measured = trainer._metrics("validation", list(range(len(trainer.splits["validation"]))))
        assert measured["loss"] == best["validation_loss"]


def test_an_unfinished_training_saves_its_state_only_after_the_time_set() -> None:
    saved: list[int] = []
    hooks = Hooks(save=lambda trainer: saved.append(trainer.state.step))
    trainer_of(plain_settings(), hooks, checkpoint_every_s=0.0).run()
    assert saved == list(range(1, 13))
    saved.clear()
    trainer_of(plain_settings(), hooks, checkpoint_every_s=3600.0).run()
    assert saved == []
