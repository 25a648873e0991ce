"""A trial is an ordinary training: its logits are those of a classifier that was loaded and trained by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniature import messages

from lasttoken.core.config import Settings
from lasttoken.core.device import CPU
from lasttoken.core.progress import Reporter
from lasttoken.core.resolve import resolve
from lasttoken.data.frames import from_lists
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs.search.rows import TrialRows
from lasttoken.runs.search.space import search_space
from lasttoken.runs.search.workbench import StoppedError, Workbench, open_workbench
from lasttoken.runs.session import open_session
from lasttoken.training.held_out import Part, calibrated_losses
from lasttoken.training.loop import TrainingInputs
from lasttoken.training.methods import make_training
from lasttoken.training.split_features import tail_logits

FITTED, SCORED = np.arange(40), np.arange(40, 60)


def settings(backbone: Path, **changes: Any) -> Settings:
    return resolve(
        "default",
        {
            "backbone": str(backbone),
            "method": "tail",
            "depth": "3",
            "train_blocks": "1",
            "read": "mean",
            "epochs": 2,
            "batch_size": 8,
            "learning_rate": 1e-2,
            "start_head": "drawn",
            "keep": "last",
            "no_cache": True,
            **changes,
        },
    )


@pytest.fixture(scope="module")
def bench(backbone: Path) -> Workbench:
    examples = from_lists(*messages(60))
    splits = Splits(examples, examples.take(SCORED.tolist()), None)
    tail = settings(backbone)
    linear = replace(tail, method="linear", train_blocks="head", depth="2", epochs=None)
    space = search_space({"tail": tail, "linear": linear}, (), 3, [1, 2, 3], 60)
    rows = TrialRows(examples, (Part(FITTED, SCORED),), in_folds=False, with_validation=False)
    session = open_session(splits, tail, CPU)
    return open_workbench(space, rows, session, label_counts=None, offline=True, reporter=Reporter())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train_blocks": "2", "read": "last+mean", "start_head": "linear"},
        {"train_blocks": "1", "depth": "2", "read": "last"},
        {"train_blocks": "all"},
        {"keep": "best", "train_blocks": "3"},
        {"train_blocks": "lora", "lora_rank": 2, "lora_alpha": 4.0, "lora_blocks": "2"},
    ],
    ids=["one block", "two", "shallow", "all", "best", "lora"],
)
def test_a_tail_is_trained_as_it_would_be_alone(changes: dict[str, Any], bench: Workbench, backbone: Path) -> None:
    chosen = settings(backbone, **changes)
    examples = from_lists(*messages(60))
    splits = Splits(examples.take(FITTED.tolist()), examples.take(SCORED.tolist()), None)
    session = open_session(splits, chosen, CPU)
    features = session.features(Reporter())
    make_training(session.prepared.classifier, TrainingInputs(features, chosen, CPU)).run()
    validation = features["validation"]
    logits = tail_logits(session.prepared.classifier, validation.source, CPU)
    expected = calibrated_losses(bench.task, logits, validation.truth)
    scored = bench.run(chosen)
    assert scored is not None
    np.testing.assert_allclose(scored.losses, expected, atol=2e-4)


def test_trials_leave_the_shared_weights_as_they_were(bench: Workbench, backbone: Path) -> None:
    before = {name: tensor.clone() for name, tensor in bench.session.prepared.classifier.state_dict().items()}
    first = bench.run(settings(backbone, train_blocks="2"))
    bench.run(settings(backbone, train_blocks="3", learning_rate=0.1))
    again = bench.run(settings(backbone, train_blocks="2"))
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first.losses, again.losses)
    for name, tensor in bench.session.prepared.classifier.state_dict().items():
        assert (tensor == before[name]).all(), name


def test_a_linear_head_is_scored_without_training_a_block(bench: Workbench) -> None:
    scored = bench.run(bench.space.defaults["linear"])
    assert scored is not None
    assert len(scored.losses) == len(SCORED)


def test_a_trial_ends_where_it_is_told_to(bench: Workbench, backbone: Path) -> None:
    steps = (Part(FITTED[:16], SCORED), Part(FITTED, SCORED))
    two = Workbench(bench.space, replace(bench.rows, steps=steps), bench.session, bench.features, None)
    told: list[int] = []

    def report(step: int, score: object) -> bool:
        told.append(step)
        return True

    assert two.run(settings(backbone), report) is None
    assert told == [0]
    with pytest.raises(StoppedError):
        two.run(settings(backbone), should_stop=lambda: True)
