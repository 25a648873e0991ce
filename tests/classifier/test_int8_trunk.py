"""An int8 trunk: trained on it, served by it, and no answer depends on its batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from miniature import messages, random_gpt, write_backbone

from lasttoken import TextClassifier
from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import SettingsError

TEXTS, LABELS = messages(60)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_backbone(tmp_path_factory.mktemp("gpt"), random_gpt(n_positions=64)))


def train(gpt: str, out: Path, precision: str, blocks: str = "1") -> TextClassifier:
    return TextClassifier.train(
        TEXTS, LABELS, backbone=gpt, epochs=2, learning_rate=1e-2, precision=precision, train_blocks=blocks, out=out
    )


def probs(run: Path, precision: str = "auto") -> np.ndarray:
    return TextClassifier.load(run, precision=precision).predict_proba(TEXTS)


@pytest.mark.parametrize("blocks", ["head", "1"])
def test_a_run_trained_in_int8_is_served_in_int8(backbone: str, tmp_path: Path, blocks: str) -> None:
    trained = train(backbone, tmp_path / "run", "int8", blocks)
    np.testing.assert_allclose(probs(tmp_path / "run"), trained.predict_proba(TEXTS), atol=1e-6)
    difference = np.abs(probs(tmp_path / "run", "float32") - probs(tmp_path / "run")).max()
    assert 0 < difference < 0.1  # another trunk, and a near one


def test_the_cached_features_of_int8_and_float32_are_two_things(backbone: str, tmp_path: Path) -> None:
    first = train(backbone, tmp_path / "a", "float32").predict_proba(TEXTS)
    train(backbone, tmp_path / "b", "int8")
    assert np.array_equal(train(backbone, tmp_path / "c", "float32").predict_proba(TEXTS), first)
    runs = [(tmp_path / name / "run.toml").read_text("utf-8") for name in "abc"]
    hashes = [next(line for line in run.splitlines() if line.startswith("hash")) for run in runs]
    assert hashes[0] == hashes[2] != hashes[1]


def test_a_float32_run_can_be_served_in_int8(backbone: str, tmp_path: Path) -> None:
    train(backbone, tmp_path / "run", "float32")
    assert 0 < np.abs(probs(tmp_path / "run", "int8") - probs(tmp_path / "run")).max() < 0.1


def test_an_int8_answer_does_not_depend_on_its_batch(backbone: str, tmp_path: Path) -> None:
    train(backbone, tmp_path / "run", "int8")
    predictor = Predictor.load(tmp_path / "run")
    together = predictor.logits(predictor.encode(TEXTS))
    alone = np.concatenate([predictor.logits(predictor.encode([text])) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_int8_needs_a_trunk_and_the_cpu(backbone: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--precision int8 is for the frozen trunk, and --train-blocks all"):
        train(backbone, tmp_path / "run", "int8", "all")
    assert not (tmp_path / "run").exists()
    train(backbone, tmp_path / "run", "int8")
    with pytest.raises(SettingsError, match="int8 is for the CPU; use --device cpu"):
        TextClassifier.load(tmp_path / "run", device="cuda")
