"""Models in groups that share a trunk, in memory of the process's own."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lora_runs import make_lora_run, write_base
from serving.conftest import TEXTS

from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import SettingsError
from lasttoken.serving.models import load_models, own_memory, trunk_digest


def test_runs_of_one_backbone_share_its_trunk_but_not_their_tails(runs: list[Path]) -> None:
    (group,) = load_models(runs, "cpu")
    assert [model.name for model in group.members] == ["spam", "other"]
    addresses = [{p.data_ptr() for p in model.predictor.classifier.parameters()} for model in group.members]
    trunk = {tensor.data_ptr() for tensor in group.lead.classifier.frozen_tensors().values()}
    assert addresses[0] & addresses[1] == trunk


def test_runs_with_lora_share_what_lies_below_their_first_updated_block(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "llama")
    runs = [make_lora_run(tmp_path / f"run{seed}", base, seed=seed, blocks=2, rank=seed) for seed in (2, 3)]
    (group,) = load_models(runs, "cpu")
    first, second = (model.predictor.classifier for model in group.members)
    addresses = [{p.data_ptr() for p in classifier.parameters()} for classifier in (first, second)]
    below = {tensor.data_ptr() for tensor in first.decoder.front_tensors(1).values()}
    assert addresses[0] & addresses[1] == below
    log_probs = group.log_probs(group.encode(TEXTS), {"run2", "run3"})
    for run in runs:
        predictor = Predictor.load(run, "cpu")
        np.testing.assert_allclose(log_probs[run.name], predictor.log_probs(predictor.encode(TEXTS)), atol=1e-5)


def test_a_group_computes_what_each_model_computes_alone(runs: list[Path]) -> None:
    (group,) = load_models(runs, "cpu")
    log_probs = group.log_probs(group.encode(TEXTS), {"spam", "other"})
    for run in runs:
        expected = [list(prediction.probs.values()) for prediction in Predictor.load(run, "cpu").predict(TEXTS)]
        np.testing.assert_allclose(np.exp(log_probs[run.name]), expected, atol=1e-5)
    assert group.log_probs(group.encode(TEXTS[:1]), {"other"}).keys() == {"other"}


def change_config(predictor: Predictor, **changes: Any) -> None:
    predictor.classifier.config = replace(predictor.classifier.config, **changes)


def change_a_frozen_weight(predictor: Predictor) -> None:
    with torch.no_grad():
        next(iter(predictor.classifier.frozen_tensors().values())).view(-1)[0] += 1


@pytest.mark.parametrize(
    "change",
    [
        change_a_frozen_weight,
        partial(change_config, max_length=32),
        partial(change_config, truncate="head"),
        partial(change_config, causal_mask=False),
        partial(change_config, prefix_ids=(3,)),
        partial(change_config, suffix_ids=(3,)),
    ],
)
def test_a_classifier_that_differs_in_its_trunk_does_not_share_it(runs: list[Path], change: Any) -> None:
    predictor = Predictor.load(runs[0], "cpu")
    own_memory(predictor.classifier, set())
    before = trunk_digest(predictor)
    assert trunk_digest(Predictor.load(runs[1], "cpu")) == before
    change(predictor)
    assert trunk_digest(predictor) != before


def test_two_runs_of_one_name_are_rejected(runs: list[Path]) -> None:
    with pytest.raises(SettingsError, match="'spam'"):
        load_models([runs[0], runs[0]], "cpu")


def test_weights_are_copied_out_of_the_file(runs: list[Path], tmp_path: Path) -> None:
    copies = [Path(shutil.copytree(run, tmp_path / run.name)) for run in runs]
    (group,) = load_models(copies, "cpu")
    before = group.log_probs(group.encode(TEXTS), {"spam", "other"})
    for copy in copies:
        weights = copy / "model.safetensors"
        with weights.open("r+b") as file:  # in place: the same file, which may be mapped
            file.seek(weights.stat().st_size // 4)
            file.write(b"\x3f" * (weights.stat().st_size // 2))
    after = group.log_probs(group.encode(TEXTS), {"spam", "other"})
    for name, expected in before.items():
        np.testing.assert_array_equal(after[name], expected)


def test_a_classifier_with_n_grams_shares_the_trunk_of_one_without(run_dir: Path, blended_run: Path) -> None:
    (group,) = load_models([run_dir, blended_run], "cpu")
    texts = [*TEXTS, "", "see you " * 100]  # longer than the GPT reads
    log_probs = group.log_probs(group.encode(texts), {run_dir.name, "blend"})
    for run in (run_dir, blended_run):
        predictor = Predictor.load(run, "cpu")
        np.testing.assert_allclose(log_probs[run.name], predictor.log_probs(predictor.encode(texts)), atol=1e-4)
