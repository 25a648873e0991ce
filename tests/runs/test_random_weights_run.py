"""A run on random weights: it needs no weights to begin, holds its own, and says where they came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from miniature import messages, random_gpt, run_cli, write_backbone, write_messages

from lasttoken.backbone.pretrained import load_backbone
from lasttoken.backbone.random_weights import RandomWeights
from lasttoken.classifier.predict import Predictor

FLAGS = ("--train-blocks", "1", "--epochs", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and a tokenizer alone."""
    folder = write_backbone(tmp_path_factory.mktemp("shape"), random_gpt(n_embd=16, n_layer=2, n_head=2))
    (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messages(tmp_path_factory.mktemp("data") / "messages.csv", *messages(60))


def test_a_run_on_random_weights_is_a_run(shape: Path, data: Path, tmp_path: Path) -> None:
    run, flags = tmp_path / "run", (*FLAGS, "--random-weights", "book", "--seed", "7")
    answer = run_cli("train", data, *flags, "--backbone", shape, "--out", run)
    assert answer.code == 0, answer.err
    drawn = load_backbone(str(shape), random_weights=RandomWeights("book", 7))
    trained = Predictor.load(run, "cpu").classifier.decoder
    assert all(torch.equal(found, drawn.decoder.state_dict()[name]) for name, found in trained.front_tensors(1).items())
    assert json.loads(run_cli("info", run, "--json").out)["backbone"] == drawn.name
    assert "base_model" not in (run / "README.md").read_text("utf-8").partition("\n---\n")[0]
    assert run_cli("predict", run, "see you").code == 0


def test_random_weights_are_not_asked(shape: Path, data: Path, tmp_path: Path) -> None:
    flags = ("--random-weights", "gpt2", "--answers", "spam=yes,ham=no")
    answer = run_cli("train", data, *FLAGS, *flags, "--backbone", shape, "--out", tmp_path / "run")
    assert answer.code == 2
    assert "--random-weights" in answer.err
    assert not (tmp_path / "run").exists()
