"""The training of a linear head: the best C on held-out rows, balance, and what calibration gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from miniature import classifier_of, labels_of, random_encoded, random_gpt
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lasttoken.classifier.classifier import Classifier
from lasttoken.core.device import CPU
from lasttoken.core.resolve import resolve
from lasttoken.training.features import TrunkPass
from lasttoken.training.linear_training import STRENGTHS, LinearTraining, head_inputs
from lasttoken.training.loop import TrainingInputs
from lasttoken.training.split_features import SplitFeatures, tail_logits


def problem(n_labels: int = 3, read: str = "mean") -> tuple[Classifier, dict[str, SplitFeatures]]:
    """A classifier and 60 train and 40 validation rows, whose labels depend on the features with noise."""
    labels = tuple("abcdef"[:n_labels])
    classifier = classifier_of(random_gpt(), train_blocks="head", read=read, labels=labels)
    splits = {}
    for seed, (name, n) in enumerate((("train", 60), ("validation", 40))):
        encoded = random_encoded(n, 12, seed=seed)
        source = TrunkPass(classifier, CPU, cache=None, say=pytest.fail).source(encoded, name)
        noise = labels_of(encoded, n_labels)
        truth = np.where(
            np.random.default_rng(seed).random(n) < 0.3, noise, encoded.token_ids[encoded.offsets[:-1]] % n_labels
        )
        splits[name] = SplitFeatures(source, truth.astype(np.int64))
    return classifier, splits


def settings(**changes: Any) -> Any:
    return resolve("default", {"method": "linear", "depth": "all", "read": "mean", **changes})


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    exponentials = np.exp(logits.astype(np.float64))
    return exponentials / exponentials.sum(1, keepdims=True)  # type: ignore[no-any-return]


def test_the_head_is_scikit_learns_at_the_best_strength_on_validation() -> None:
    classifier, splits = problem()
    outcome = LinearTraining(classifier, TrainingInputs(splits, settings(), CPU)).run()
    train, validation = (
        head_inputs(classifier, splits[name].source, CPU).astype(np.float64) for name in ("train", "validation")
    )
    scaler = StandardScaler().fit(np.concatenate([train, validation]))
    kept = outcome.history[outcome.kept_step]
    theirs = LogisticRegression(C=kept["C"], tol=1e-8, max_iter=10_000)
    theirs.fit(scaler.transform(train), splits["train"].truth)
    ours = probabilities(tail_logits(classifier, splits["validation"].source, CPU))
    np.testing.assert_allclose(ours, theirs.predict_proba(scaler.transform(validation)), atol=3e-3)
    assert outcome.held_out is None
    assert [line["C"] for line in outcome.history] == list(STRENGTHS[: len(outcome.history)])
    assert [line["C"] for line in outcome.history if line["best"]] == [kept["C"]]
    assert {"train_loss", "validation_loss", "validation_accuracy", "epoch", "step"} <= kept.keys()


def test_in_folds_all_rows_are_fitted_and_each_has_logits_from_without_it() -> None:
    classifier, splits = problem()
    outcome = LinearTraining(classifier, TrainingInputs(splits, settings(), CPU, may_fold=True)).run()
    features = np.concatenate([head_inputs(classifier, split.source, CPU) for split in splits.values()]).astype(
        np.float64
    )
    truth = np.concatenate([split.truth for split in splits.values()])
    z = StandardScaler().fit_transform(features)
    theirs = LogisticRegression(C=outcome.history[outcome.kept_step]["C"], tol=1e-8, max_iter=10_000).fit(z, truth)
    ours = probabilities(tail_logits(classifier, splits["train"].source, CPU))
    np.testing.assert_allclose(ours, theirs.predict_proba(z)[:60], atol=3e-3)
    held_out = outcome.held_out
    assert held_out is not None
    assert len(held_out.logits) == len(truth)
    assert sorted(held_out.validation_rows) == list(range(40))
    seen = tail_logits(classifier, splits["validation"].source, CPU)[held_out.validation_rows]
    assert abs(held_out.validation_logits - seen).max() > 0.01, "these are of other heads"


def test_the_same_seed_gives_the_same_head() -> None:
    weights = []
    for _ in range(2):
        classifier, splits = problem()
        LinearTraining(classifier, TrainingInputs(splits, settings(), CPU, may_fold=True)).run()
        weights.append(classifier.head.weight.detach().clone())
    assert weights[0].equal(weights[1])


@pytest.mark.parametrize("balance", ["weights", "oversample", "undersample"])
def test_balanced_labels_have_equal_frequencies_in_training_and_real_ones_afterwards(balance: str) -> None:
    """A regression without information learns the frequencies of labels alone."""
    classifier, splits = problem(2)
    uneven = {
        name: SplitFeatures(split.source, (np.arange(len(split)) % 5 == 0).astype(np.int64))
        for name, split in splits.items()
    }
    training = LinearTraining(classifier, TrainingInputs(uneven, settings(balance=balance), CPU))
    weights, truth = training.problem.weights[0], training.problem.truth[:60]
    assert weights[truth == 0].sum() == pytest.approx(weights[truth == 1].sum())
    training.run()
    probs = probabilities(tail_logits(classifier, uneven["train"].source, CPU))
    assert probs[:, 1].mean() == pytest.approx(0.2, abs=0.12)


def test_rows_of_weight_zero_have_no_effect() -> None:
    classifier, splits = problem()
    wrong = splits["train"].truth.copy()
    wrong[:20] = (wrong[:20] + 1) % 3
    weights = np.where(np.arange(60) < 20, 0, 1.5).astype(np.float32)
    silenced = {**splits, "train": SplitFeatures(splits["train"].source, wrong, weights)}
    other = {**splits, "train": SplitFeatures(splits["train"].source, splits["train"].truth, weights)}
    heads = []
    for each in (silenced, other):
        LinearTraining(classifier, TrainingInputs(each, settings(), CPU)).run()
        heads.append(classifier.head.weight.detach().clone())
    np.testing.assert_allclose(heads[0].numpy(), heads[1].numpy(), atol=1e-3)
