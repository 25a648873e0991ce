"""The opening of a training: the same for every caller, with a learning rate for the backbone's width."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from miniature import POCKET, messages, plain_settings, random_gpt, write_backbone

from lasttoken.core.config import Settings
from lasttoken.core.device import CPU
from lasttoken.core.errors import SettingsError
from lasttoken.core.progress import Reporter
from lasttoken.data.files import Examples
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs import session as sessions
from lasttoken.runs.clock import Clock
from lasttoken.runs.session import open_device, open_session
from lasttoken.training.split_features import SplitFeatures


class Listener(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


def splits_of(n: int = 12) -> Splits:
    texts, labels = messages(n)
    half = n // 2
    return Splits(Examples(texts[:half], labels[:half]), Examples(texts[half:], labels[half:]), None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = write_backbone(tmp_path / "gpt", random_gpt(n_embd=32, n_layer=2))
    return plain_settings(backbone=str(folder), no_cache=True, learning_rate=None)


def test_a_session_has_a_rate_for_the_width_and_features_of_every_split(settings: Settings) -> None:
    clock = Clock()
    session = open_session(splits_of(), settings, CPU, offline=True, clock=clock)
    assert session.settings.learning_rate is not None
    assert session.device == CPU
    assert set(clock.seconds) == {"load", "encode", "trunk"}
    features = session.features(Reporter())
    assert {name: len(split) for name, split in features.items()} == {"train": 6, "validation": 6}
    assert all(isinstance(split, SplitFeatures) for split in features.values())
    assert session.trunk.cache is None


def test_the_fingerprint_depends_on_rows_and_settings_that_change_the_training(settings: Settings) -> None:
    def fingerprint(splits: Splits, **changes: Any) -> str:
        return open_session(splits, replace(settings, **changes), CPU, offline=True).fingerprint()

    first = fingerprint(splits_of())
    assert fingerprint(splits_of(), calibrate=not settings.calibrate) == first
    assert fingerprint(splits_of(), epochs=3) != first
    assert fingerprint(splits_of(14)) != first


def test_activations_are_computed_again_where_the_settings_say_so(settings: Settings) -> None:
    for value in ("on", "off"):
        session = open_session(splits_of(), replace(settings, checkpoint_activations=value), CPU, offline=True)
        assert session.prepared.classifier.checkpoints_activations == (value == "on")


def test_too_many_blocks_are_an_error_of_the_user(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="--train-blocks is 9"):
        open_session(splits_of(), replace(settings, train_blocks="9"), CPU, offline=True)


@pytest.mark.parametrize(("passes", "n_said"), [(1, 0), (2, 1)])
def test_int8_without_vnni_is_said_to_be_slower(passes: int, n_said: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "int8_passes", lambda: passes)
    reporter = Listener()
    assert open_device(plain_settings(precision="int8"), reporter).precision == "int8"
    assert len(reporter.said) == n_said
    assert all("VNNI" in sentence for sentence in reporter.said)


@pytest.mark.parametrize(("has_instructions", "n_said"), [(True, 0), (False, 1)])
def test_bfloat16_without_its_instructions_is_said_to_be_slower(
    has_instructions: bool, n_said: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "cpu_has_bfloat16", lambda: has_instructions)
    reporter = Listener()
    assert open_device(plain_settings(precision="bfloat16", device="cpu"), reporter).precision == "bfloat16"
    assert len(reporter.said) == n_said
    assert all("AVX512_BF16" in sentence for sentence in reporter.said)
    assert open_device(plain_settings(), Listener()).precision != "bfloat16" or torch.cuda.is_available()


def test_a_depth_uses_the_first_blocks_only_and_the_saved_classifier_has_no_others(tmp_path: Path) -> None:
    from lasttoken.estimator import TextClassifier

    texts, labels = messages(40)
    trained = TextClassifier.train(texts, labels, depth=2, epochs=1, backbone=POCKET, out=tmp_path / "run")
    decoder = TextClassifier.load(tmp_path / "run")._predictor.classifier.decoder
    assert len(decoder.blocks) == decoder.config.n_layer == 2
    assert trained.predict(texts[:3]) == TextClassifier.load(tmp_path / "run").predict(texts[:3])
    with pytest.raises(SettingsError, match="--depth 7"):
        TextClassifier.train(texts, labels, depth=7, epochs=1, backbone=POCKET)
