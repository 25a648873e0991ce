"""Repeated trainings equal a training alone, test every row once, and leave the classifier as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from miniature import messages, plain_settings, write_backbone

from lasttoken.backbone.pretrained import load_backbone
from lasttoken.core.config import Settings
from lasttoken.core.device import CPU
from lasttoken.data.frames import from_lists
from lasttoken.data.splitting.cutting import split_examples
from lasttoken.training.features import TrunkPass
from lasttoken.training.loop import Trainer, TrainingInputs
from lasttoken.training.prepare import Prepared, prepare
from lasttoken.training.repeater import Repeater, out_of_fold
from lasttoken.training.split_features import SplitFeatures, tail_logits

SETTINGS = replace(plain_settings(), calibrate=False, train_blocks="1", eval_every=0, eval_batches=0)


def prepared_run(folder: Path, settings: Settings) -> tuple[Prepared, dict[str, SplitFeatures]]:
    splits = split_examples(from_lists(*messages(60)), 0.6, 0.2, 1)
    prepared = prepare(splits, load_backbone(str(write_backbone(folder))), settings, CPU, lambda sentence: None)
    trunk = TrunkPass(prepared.classifier, CPU, cache=None, say=lambda sentence: None)
    return prepared, {
        name: SplitFeatures(trunk.source(encoded, name), prepared.truth[name])
        for name, encoded in prepared.encoded.items()
    }


@pytest.mark.parametrize(("blocks", "head_bias"), [("head", True), ("1", True), ("1", False), ("all", True)])
def test_a_fit_is_the_training_that_would_have_been_run_alone(blocks: str, head_bias: bool, tmp_path: Path) -> None:
    settings = replace(SETTINGS, train_blocks=blocks, seed=7, head_bias=head_bias)
    prepared, features = prepared_run(tmp_path / "a", replace(settings, seed=1))
    repeater = Repeater(prepared, features)
    with repeater.borrowed():
        found = repeater.fit(repeater.rows, settings)["test"]
    alone, features = prepared_run(tmp_path / "b", settings)
    Trainer(alone.classifier, TrainingInputs(features, settings, CPU)).run()
    expected = torch.log_softmax(torch.from_numpy(tail_logits(alone.classifier, features["test"].source, CPU)), 1)
    assert found == pytest.approx(expected.numpy(), abs=1e-5)


def test_the_head_takes_in_the_real_frequencies_and_evaluations_had_them_before(tmp_path: Path) -> None:
    settings = replace(SETTINGS, balance="weights", keep="last")
    prepared, features = prepared_run(tmp_path, settings)
    counts = np.array([900, 100])
    trainer = Trainer(prepared.classifier, TrainingInputs(features, settings, CPU, label_counts=counts))
    before = tail_logits(prepared.classifier, features["test"].source, CPU)
    shift = np.log(2 * counts / 1000)
    assert trainer.logits(features["test"].source) - before == pytest.approx(np.tile(shift, (len(before), 1)), abs=1e-5)
    line = trainer.run().history[-1]
    after = tail_logits(prepared.classifier, features["validation"].source, CPU)
    truth = torch.from_numpy(features["validation"].truth)
    assert float(torch.nn.functional.cross_entropy(torch.from_numpy(after), truth)) == pytest.approx(
        line["validation_loss"], abs=1e-5
    )


def test_the_classifier_gets_its_weights_back(tmp_path: Path) -> None:
    prepared, features = prepared_run(tmp_path, SETTINGS)
    repeater = Repeater(prepared, features)
    before = tail_logits(prepared.classifier, features["test"].source, CPU)
    with repeater.borrowed():
        repeater.fit(repeater.rows, SETTINGS)
        assert (tail_logits(prepared.classifier, features["test"].source, CPU) != before).any()
    assert (tail_logits(prepared.classifier, features["test"].source, CPU) == before).all()


def test_every_row_is_tested_once_by_a_classifier_that_was_not_trained_on_it(tmp_path: Path) -> None:
    prepared, features = prepared_run(tmp_path, SETTINGS)
    repeater = Repeater(prepared, features)
    folds = repeater.folds(3, 0.1, seed=2)
    assert sorted(np.concatenate([fold["test"] for fold in folds]).tolist()) == list(range(60))
    for fold in folds:
        assert sorted(np.concatenate(list(fold.values())).tolist()) == list(range(60))
    log_probs = out_of_fold(repeater, SETTINGS, 3)
    assert log_probs.shape == (60, 2)
    assert np.exp(log_probs).sum(1) == pytest.approx(1, abs=1e-5)
