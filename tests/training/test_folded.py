"""Tails that are trained on few rows: every row is scored by a tail that never saw it, and all rows are fitted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from miniature import classifier_of, labels_of, random_encoded, random_gpt

from lasttoken.classifier.classifier import Classifier
from lasttoken.core.config import Settings
from lasttoken.core.device import CPU
from lasttoken.core.resolve import resolve
from lasttoken.training import folded
from lasttoken.training.features import TrunkPass
from lasttoken.training.folded import FoldedTail, linear_heads, refits
from lasttoken.training.loop import (
    Hooks,
    Line,
    State,
    Trainer,
    TrainingInputs,
)
from lasttoken.training.methods import make_training, train_classifier
from lasttoken.training.pool import Pool
from lasttoken.training.split_features import SplitFeatures, tail_logits


def settings(**changes: Any) -> Settings:
    given = {"method": "tail", "train_blocks": "1", "read": "last+mean", "epochs": 2, "batch_size": 8}
    rest = {"learning_rate": 1e-3, "keep": "last", "start_head": "linear", "precision": "float32"}
    return resolve("default", {**given, **rest, **changes})


def problem(n_train: int = 30, n_validation: int = 10) -> tuple[Classifier, dict[str, SplitFeatures]]:
    """A classifier, and splits whose label is a function of the text."""
    classifier = classifier_of(random_gpt(), train_blocks="1", read="last+mean", labels=("a", "b", "c"))
    splits = {}
    for seed, (name, n) in enumerate((("train", n_train), ("validation", n_validation))):
        encoded = random_encoded(n, 12, seed=seed)
        source = TrunkPass(classifier, CPU, cache=None, say=pytest.fail).source(encoded, name)
        splits[name] = SplitFeatures(source, labels_of(encoded, 3))
    return classifier, splits


def test_each_row_is_scored_once_by_a_tail_that_was_not_fitted_to_it() -> None:
    classifier, splits = problem()
    training = FoldedTail(classifier, TrainingInputs(splits, settings(), CPU))
    start = {name: parameter.detach().clone() for name, parameter in classifier.trained().items()}
    outcome = training.run()
    held_out = outcome.held_out
    assert held_out is not None
    scored = np.concatenate([part.scored for part in held_out.parts])
    assert sorted(scored.tolist()) == list(range(40))
    assert all(not set(part.fitted) & set(part.scored) for part in held_out.parts)
    place = next(place for place, part in enumerate(held_out.parts) if len(part.scored))
    part, pool = held_out.parts[place], Pool.whole([split.source for split in splits.values()])
    truth = np.concatenate([split.truth for split in splits.values()])
    alone, _ = problem()
    with torch.no_grad():
        for name, parameter in alone.trained().items():
            parameter.copy_(start[name])
        head = training.heads.parts[place]
        alone.head.weight.copy_(torch.from_numpy(head.weight))
        alone.head.bias.copy_(torch.from_numpy(head.bias))
    rows = {"train": part.fitted, "validation": part.scored}
    Trainer(
        alone,
        TrainingInputs(
            {name: SplitFeatures(pool.take(each), truth[each]) for name, each in rows.items()}, settings(), CPU
        ),
    ).run()
    before = sum(len(each.scored) for each in held_out.parts[:place])
    expected = tail_logits(alone, pool.take(part.scored), CPU)
    np.testing.assert_allclose(held_out.logits[before : before + len(part.scored)], expected, atol=1e-5)
    np.testing.assert_array_equal(held_out.truth, truth[scored])
    np.testing.assert_array_equal(np.sort(held_out.validation_rows), np.arange(10))


def test_the_classifier_is_fitted_to_validation_too() -> None:
    """Other labels in validation change its weights."""
    weights = []
    for shift in (0, 1):
        classifier, splits = problem()
        splits["validation"] = replace(splits["validation"], truth=(splits["validation"].truth + shift) % 3)
        FoldedTail(classifier, TrainingInputs(splits, settings(), CPU)).run()
        weights.append(classifier.head.weight.detach().clone())
    assert not torch.equal(*weights)


def test_the_history_is_that_of_the_first_fold_and_every_step_is_counted() -> None:
    classifier, splits = problem()
    steps: list[int] = []
    hooks = Hooks(on_step=lambda state: steps.append(state.step))
    training = FoldedTail(classifier, TrainingInputs(splits, settings(), CPU), hooks)
    outcome = training.run()
    assert len(steps) == training.total_steps
    assert [line["epoch"] for line in outcome.history] == [0.0, 1.0, 2.0]
    assert outcome.kept_step == outcome.history[-1]["step"]
    assert outcome.stopped is None


def test_only_the_first_part_is_evaluated_in_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sees the others' evaluations, which would take a tenth of the time and more."""
    classifier, splits = problem()
    training, counted = FoldedTail(classifier, TrainingInputs(splits, settings(), CPU)), list[int]()
    evaluate = Trainer._evaluate_whole

    def count(trainer: Trainer) -> Line:
        counted.append(training._part)
        return evaluate(trainer)

    monkeypatch.setattr(Trainer, "_evaluate_whole", count)
    training.run()
    assert counted == [0, 0, 0, 1, 2, 3, 4, 5]


def test_a_stop_ends_the_fold_and_is_reported() -> None:
    classifier, splits = problem()
    seen: list[State] = []
    hooks = Hooks(on_step=seen.append, should_stop=lambda: bool(seen))
    assert FoldedTail(classifier, TrainingInputs(splits, settings(), CPU), hooks).run().stopped == "interrupted"


def test_folds_are_for_few_rows_whose_last_weights_are_kept() -> None:
    _, splits = problem()
    assert refits(splits, settings())
    assert not refits(splits, settings(epochs=folded.REFITTED))
    assert not refits(splits, settings(keep="best"))
    assert not refits(splits, settings(patience=2))


def test_more_rows_are_scored_on_validation_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classifier that is kept is fitted to all rows all the same."""
    monkeypatch.setattr(folded, "FOLDED", 0)
    classifier, splits = problem()
    held_out = FoldedTail(classifier, TrainingInputs(splits, settings(), CPU)).run().held_out
    assert held_out is not None
    np.testing.assert_array_equal(held_out.validation_rows, np.arange(10))
    np.testing.assert_array_equal(held_out.logits, held_out.validation_logits)
    alone, same = problem()
    head = linear_heads(alone, TrainingInputs(same, settings(), CPU), in_folds=False)
    alone.head.weight.data.copy_(torch.from_numpy(head.parts[0].weight))
    alone.head.bias.data.copy_(torch.from_numpy(head.parts[0].bias))
    Trainer(alone, TrainingInputs(same, settings(), CPU)).run()
    np.testing.assert_allclose(held_out.logits, tail_logits(alone, same["validation"].source, CPU), atol=1e-5)
    assert not torch.equal(alone.head.weight, classifier.head.weight)


@pytest.mark.parametrize(("may_fold", "kind"), [(True, FoldedTail), (False, Trainer)])
def test_rows_of_a_given_validation_split_are_never_fitted(may_fold: bool, kind: type) -> None:
    classifier, splits = problem()
    assert type(make_training(classifier, TrainingInputs(splits, settings(), CPU, may_fold=may_fold))) is kind


def test_a_training_that_starts_from_the_linear_head_starts_with_its_logits() -> None:
    classifier, splits = problem()
    head = linear_heads(classifier, TrainingInputs(splits, settings(), CPU), in_folds=False).parts[0]
    training = make_training(classifier, TrainingInputs(splits, settings(), CPU))
    assert isinstance(training, Trainer)
    np.testing.assert_array_equal(classifier.head.weight.detach().numpy(), head.weight)
    drawn = problem()[0].head.weight.detach().numpy()
    make_training(fresh := problem()[0], TrainingInputs(splits, settings(start_head="drawn"), CPU))
    np.testing.assert_array_equal(fresh.head.weight.detach().numpy(), drawn)
    assert train_classifier(classifier, TrainingInputs(splits, settings(), CPU)).held_out is None
