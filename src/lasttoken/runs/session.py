"""The opening of every training: from splits and settings to a classifier whose features can be computed.

splits ─► backbone ─► recipe for it and train ─► head, token ids ─► trunk ─► features
          load                                   prepare            TrunkPass

`lasttoken train`, `lasttoken suspects` and the scikit-learn estimator all begin here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lasttoken.backbone.decoder import DecoderConfig
from lasttoken.backbone.onednn import int8_passes
from lasttoken.backbone.pretrained import Backbone, load_backbone
from lasttoken.backbone.random_weights import RandomWeights
from lasttoken.core.config import Settings
from lasttoken.core.device import Device, cpu_has_bfloat16, pick_device
from lasttoken.core.progress import Reporter
from lasttoken.core.tail_recipe import TrainSize, tail_recipe
from lasttoken.data.files import Examples
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs.clock import Clock
from lasttoken.training.feature_cache import FeatureCache
from lasttoken.training.features import TrunkPass
from lasttoken.training.helper import share_classifier
from lasttoken.training.prepare import Prepared, features_of, fingerprint, prepare
from lasttoken.training.split_features import SplitFeatures


@dataclass(frozen=True)
class Session:
    """A training that is ready to compute features."""

    settings: Settings  # with the recipe and the prompt of the backbone, where none were given
    prepared: Prepared
    trunk: TrunkPass

    @property
    def device(self) -> Device:
        """The device that computes."""
        return self.trunk.device

    def fingerprint(self, asked: Settings | None = None) -> str:
        """The hash of everything that changes the result; `asked`: settings that leave something open."""
        return fingerprint(self.prepared, asked or self.settings, self.trunk.hash)

    def features(
        self, reporter: Reporter, known: Mapping[str, NDArray[np.float32]] | None = None
    ) -> dict[str, SplitFeatures]:
        """The features of every split: those that are `known`, and others computed or read from the cache."""
        return features_of(self.prepared, self.trunk, reporter, known or {})


def completed(settings: Settings, config: DecoderConfig, train: Examples) -> Settings:
    """The settings with the recipe for this backbone and this train split where none were set."""
    size = TrainSize.of(train.texts)
    recipe = tail_recipe(
        config.positions, config.n_embd, config.n_layer, size, settings.train_blocks, settings.lora_rank
    )
    return settings.completed(recipe)


def open_device(settings: Settings, reporter: Reporter) -> Device:
    """The device of the settings.

    Raises:
        SettingsError: this machine does not have it.
    """
    device = pick_device(settings.device, settings.precision)
    if device.precision == "int8" and int8_passes() != 1:
        reporter.say("this processor lacks 8-bit dot products (VNNI): --precision int8 is slower than float32 here")
    if device.precision == "bfloat16" and device.torch_device.type == "cpu" and not cpu_has_bfloat16():
        reporter.say(
            "this processor has no instructions for bfloat16 (AMX, AVX512_BF16): --precision bfloat16 is slower than "
            "float32 here"
        )
    return device


def open_backbone(settings: Settings, *, offline: bool = False, reporter: Reporter | None = None) -> Backbone:
    """The backbone that the settings name, with as many blocks as they use.

    Raises:
        BackboneError, NetworkError, SettingsError: see `load_backbone`.
    """
    drawn = None if settings.random_weights is None else RandomWeights(settings.random_weights, settings.seed)
    return load_backbone(settings.backbone, offline, settings.n_blocks, reporter, drawn)


def open_session(
    splits: Splits,
    settings: Settings,
    device: Device,
    *,
    offline: bool = False,
    reporter: Reporter | None = None,
    clock: Clock | None = None,
) -> Session:
    """Load the backbone, put a head on it, encode the texts and hash the trunk.

    Raises:
        BackboneError, NetworkError: the backbone cannot be loaded.
        SettingsError: settings that this backbone, or this many rows, do not allow.
        DeviceError: the device computes other logits than the CPU.
    """
    assert not settings.leaves_choices  # choice.py makes settings that leave nothing open
    clock, reporter = clock or Clock(), reporter or Reporter()
    with clock.part("load"), reporter.working(f"loading {settings.backbone}"):
        backbone = open_backbone(settings, offline=offline, reporter=reporter)
    settings = completed(settings, backbone.config, splits.train).with_prompt_of(backbone.prompt)
    with clock.part("encode"), reporter.working("encoding the texts"):
        prepared = prepare(splits, backbone, settings, device, reporter.say)
    cache = None if settings.no_cache else FeatureCache(settings.cache_limit_bytes)
    with clock.part("trunk"), reporter.working("preparing the trunk"):
        trunk = TrunkPass(prepared.classifier, device, cache=cache, say=reporter.say)
        if device.team is not None and device.team.is_open:
            trunk.shared = share_classifier(device.team, prepared.classifier, settings, offline, trunk.hash)
    return Session(settings, prepared, trunk)
