"""What the rows of a study share: backbones, token ids, and features, each computed once and let go after its last use.

    row            trunk                      features
    two blocks     blocks 0-9    ─► after block 9   ─► trains, every seed
    one block      blocks 0-10   ─► block 10 on them ─► after block 10 ─► trains, every seed
    head only      blocks 0-11   ─► block 11 on them ─► one vector a text ─► trains, every seed

Rows go on from the deepest features of the same trunk that are there. Whether two trunks are the same is decided by a
hash of their tensors, block by block, and of everything else that features depend on. Every training has a twin of the
backbone, which shares the memory of the trunk and has a tail of its own.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.pretrained import Backbone
from lasttoken.backbone.weights import bytes_of
from lasttoken.classifier.classifier import ClassifierConfig
from lasttoken.classifier.encoding import Encoded
from lasttoken.core.config import Settings
from lasttoken.core.device import Device
from lasttoken.core.progress import Reporter
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs.session import Session, completed, open_backbone, open_device
from lasttoken.training.feature_cache import FeatureCache
from lasttoken.training.features import FeatureSource, Prefix, StoredFeatures, TrunkPass
from lasttoken.training.prepare import Prepared, new_predictor, prepare
from lasttoken.training.split_features import SplitFeatures


@dataclass(frozen=True)
class OpenRow:
    """A row that was opened once: everything about its training but the weights."""

    asked: Settings  # as the row has them
    settings: Settings  # with the recipe and the prompt of the backbone
    device: Device
    backbone: Backbone
    prepared: Prepared  # its classifier is empty: `Trunks.session` makes one for each training
    config: ClassifierConfig
    n_frozen: int | None
    keeps_tokens: bool
    texts: str  # a hash of the token ids
    trunk: tuple[str, ...]  # a hash of what precedes each depth from 0 to n_frozen; empty if there is no trunk

    @property
    def features(self) -> tuple[Any, ...]:
        """Equal for rows with the same features."""
        own = () if self.keeps_tokens else (self.config.read, self.config.around)
        return (self.texts, self.trunk[-1] if self.trunk else None, self.keeps_tokens, own)

    @property
    def family(self) -> tuple[Any, ...]:
        """Equal for rows whose trunks may begin alike."""
        return (self.texts, self.trunk[0]) if self.trunk else (id(self),)


@dataclass(frozen=True)
class Level:
    """The features of all splits for one row, and for those with the same trunk."""

    row: OpenRow
    trunk: TrunkPass
    features: dict[str, SplitFeatures]
    seconds: float


@dataclass
class Trunks:
    """The backbones and features of a study."""

    splits: Splits
    offline: bool
    reporter: Reporter
    _backbones: dict[tuple[Any, ...], Backbone] = field(default_factory=dict)
    _hashes: dict[tuple[Any, ...], bytes] = field(
        default_factory=dict
    )  # by backbone and block; -1: what is not a block
    _encoded: dict[str, dict[str, Encoded]] = field(default_factory=dict)
    _levels: list[Level] = field(default_factory=list)

    def backbone(self, settings: Settings) -> Backbone:
        """The backbone of the settings, loaded once."""
        key = _backbone_key(settings)
        if key not in self._backbones:
            with self.reporter.working(f"loading {settings.backbone}"):
                self._backbones[key] = open_backbone(settings, offline=self.offline, reporter=self.reporter)
        return self._backbones[key]

    def keep_backbones(self, rows: Iterable[OpenRow]) -> None:
        """Let go of backbones that none of these rows needs."""
        needed = {id(row.backbone) for row in rows}
        self._backbones = {key: each for key, each in self._backbones.items() if id(each) in needed}

    def open(self, asked: Settings) -> OpenRow:
        """Check a row against its backbone and the data, and describe its training; nothing is computed.

        Raises:
            BackboneError, NetworkError, SettingsError, DeviceError: see `open_session`.
        """
        backbone, device = self.backbone(asked), open_device(asked, Reporter())
        settings = completed(asked, backbone.config, self.splits.train).with_prompt_of(backbone.prompt)
        twin = replace(backbone, decoder=backbone.decoder.twin())
        prepared = prepare(self.splits, twin, settings, device, lambda note: None)
        classifier, texts = prepared.classifier, _hash_of_texts(prepared.encoded)
        encoded = self._encoded.setdefault(texts, prepared.encoded)
        n_frozen = classifier.n_frozen
        return OpenRow(
            asked=asked,
            settings=settings,
            device=device,
            backbone=backbone,
            prepared=replace(prepared, predictor=None, encoded=encoded),  # type: ignore[arg-type]
            config=classifier.config,
            n_frozen=n_frozen,
            keeps_tokens=classifier.keeps_tokens,
            texts=texts,
            trunk=() if n_frozen is None else self._trunk_hashes(asked, classifier.config, device, n_frozen),
        )

    def _trunk_hashes(
        self, asked: Settings, config: ClassifierConfig, device: Device, n_frozen: int
    ) -> tuple[str, ...]:
        """See `OpenRow.trunk`."""
        decoder, key = self.backbone(asked).decoder, _backbone_key(asked)
        facts = [config.causal_mask, device.torch_device.type, device.precision, decoder.fingerprint()]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        digest.update(self._hash((*key, -1), _around(decoder)))
        hashes = [digest.hexdigest()]
        for number, block in enumerate(decoder.blocks[:n_frozen]):
            digest.update(self._hash((*key, number), list(block.parameters())))
            hashes.append(digest.hexdigest())
        return tuple(hashes)

    def _hash(self, key: tuple[Any, ...], tensors: Sequence[Tensor]) -> bytes:
        if key not in self._hashes:
            digest = hashlib.sha256()
            for tensor in tensors:
                stored = tensor.detach() if tensor.is_contiguous() else tensor.detach().t()
                digest.update(f"{tensor.dtype}{tuple(stored.shape)}{tensor.is_contiguous()}".encode())
                digest.update(bytes_of(stored).data)
            self._hashes[key] = digest.digest()
        return self._hashes[key]

    def weights_of(self, row: OpenRow) -> str:
        """A hash of the whole backbone of a row, as far as it is used."""
        decoder, key = row.backbone.decoder, _backbone_key(row.asked)
        digest = hashlib.sha256(json.dumps(decoder.fingerprint(), sort_keys=True).encode())
        digest.update(self._hash((*key, -1), _around(decoder)))
        for number, block in enumerate(decoder.blocks):
            digest.update(self._hash((*key, number), list(block.parameters())))
        return digest.hexdigest()

    def session(self, row: OpenRow, seed: int) -> tuple[Session, dict[str, SplitFeatures], float]:
        """A training of a row: a new classifier, the features, and the seconds that they took just now."""
        if row.settings.random_weights is not None and seed != row.settings.seed:
            row = self._redrawn(row, seed)
        prepared = self._prepared(row, seed)
        level, seconds = self._level(row, prepared)
        return Session(replace(row.settings, seed=seed), prepared, level.trunk), level.features, seconds

    def _redrawn(self, row: OpenRow, seed: int) -> OpenRow:
        """The row on a backbone that is drawn from another seed; drawn ones of before are let go."""
        self._backbones = {key: each for key, each in self._backbones.items() if key[2] is None}
        self._levels = [level for level in self._levels if level.row.settings.random_weights is None]
        return self.open(replace(row.asked, seed=seed))

    def _prepared(self, row: OpenRow, seed: int) -> Prepared:
        twin = replace(row.backbone, decoder=row.backbone.decoder.twin())
        predictor = new_predictor(twin, row.config, seed, row.device)
        predictor.classifier.own_tail()
        return replace(row.prepared, predictor=predictor)

    def _level(self, row: OpenRow, prepared: Prepared) -> tuple[Level, float]:
        for level in self._levels:
            if level.row.features == row.features and (row.trunk or level.row is row):
                return level, 0.0
        started = time.perf_counter()
        settings = row.settings
        cache = None if settings.no_cache or row.n_frozen is None else FeatureCache(settings.cache_limit_bytes)
        used = sum(level.trunk.memory_used for level in self._levels)
        with self.reporter.working("preparing the trunk"):
            trunk = TrunkPass(prepared.classifier, row.device, cache=cache, say=self.reporter.say, memory_used=used)
        below = self._deepest_below(row)
        n_tokens = sum(encoded.n_tokens for encoded in prepared.encoded.values())
        with self.reporter.bar("trunk", n_tokens) as advance:
            features = {
                name: SplitFeatures(
                    trunk.source(encoded, name, lambda done: advance(done, ""), _prefix(below, name)),
                    prepared.truth[name],
                )
                for name, encoded in prepared.encoded.items()
            }
        prepared.classifier.release_trunk()
        trunk.memory_used -= used
        level = Level(row, trunk, features, time.perf_counter() - started)
        self._levels.append(level)
        return level, level.seconds

    def _deepest_below(self, row: OpenRow) -> Level | None:
        """The deepest features that the trunk of a row can go on from; in float32 only, where they are exact."""
        if not row.trunk or row.device.precision != "float32":
            return None
        deepest = len(row.trunk) - 1 if row.keeps_tokens else len(row.trunk) - 2
        usable = [
            level
            for level in self._levels
            if level.row.keeps_tokens
            and level.row.trunk
            and level.row.texts == row.texts
            and len(level.row.trunk) - 1 <= deepest
            and level.row.trunk[-1] == row.trunk[len(level.row.trunk) - 1]
        ]
        return max(usable, key=lambda level: len(level.row.trunk), default=None)

    def keep_levels(self, rows: Sequence[OpenRow]) -> None:
        """Let go of features that none of these rows reads or goes on from."""
        wanted = {row.features for row in rows if row.trunk}
        wanted |= {level.row.features for row in rows if (level := self._deepest_below(row))}
        self._levels = [level for level in self._levels if level.row.trunk and level.row.features in wanted]


def in_order(rows: Sequence[OpenRow]) -> list[int]:
    """The places of rows in the order in which they share most: those of one trunk together, the shallowest first."""
    families: dict[tuple[Any, ...], list[int]] = {}
    for place, row in enumerate(rows):
        families.setdefault(row.family, []).append(place)

    def depth(place: int) -> tuple[int, bool, str]:
        return len(rows[place].trunk), not rows[place].keeps_tokens, str(rows[place].features)

    return [place for places in families.values() for place in sorted(places, key=depth)]


def _backbone_key(settings: Settings) -> tuple[Any, ...]:
    """Equal for settings with the same backbone; drawn weights depend on the seed."""
    drawn = settings.random_weights
    return (settings.backbone, settings.n_blocks, drawn, None if drawn is None else settings.seed)


def _around(decoder: Decoder) -> list[Tensor]:
    """The parameters that are in no block and not those of a language-model head."""
    modules = [*decoder.embeddings, decoder.final_norm]
    return [tensor for module in modules for tensor in module.parameters()]


def _prefix(level: Level | None, split: str) -> Prefix | None:
    """The features of a level as a prefix; None where they are not kept, because a batch would compute them again."""
    source: FeatureSource | None = level.features[split].source if level else None
    if level is None or not isinstance(source, StoredFeatures):
        return None
    return Prefix(source, len(level.row.trunk) - 1)


def _hash_of_texts(encoded: dict[str, Encoded]) -> str:
    digest = hashlib.sha256()
    for name, split in encoded.items():
        digest.update(f"{name}{len(split)}".encode())
        digest.update(split.lengths.tobytes() + split.token_ids.tobytes())
    return digest.hexdigest()
