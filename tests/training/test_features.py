"""The features of a split: in memory, in the cache or computed for every batch, always the same to rounding."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniature import classifier_of, random_encoded, random_gpt
from torch import Tensor

from lasttoken.core.device import CPU
from lasttoken.training import features
from lasttoken.training.feature_cache import FeatureCache
from lasttoken.training.features import FeatureSource, LiveFeatures, Prefix, StoredFeatures, TrunkPass, trunk_hash

LIMIT = 10**9
TEXTS = random_encoded(20)
C = 32


def trunk_pass(cache: FeatureCache | None, said: list[str] | None = None, **changes: Any) -> TrunkPass:
    say = pytest.fail if said is None else said.append
    return TrunkPass(classifier_of(random_gpt(n_embd=C), **changes), CPU, cache=cache, say=say)


def content(source: FeatureSource) -> Tensor:
    return source.batch(list(range(len(source.encoded))))[0]


@pytest.mark.parametrize("blocks", ["head", "1"])
def test_rows_are_packed_in_the_order_of_the_request(blocks: str) -> None:
    source = trunk_pass(FeatureCache(LIMIT), train_blocks=blocks).source(TEXTS, "train")
    live = LiveFeatures(TEXTS, trunk_pass(None, train_blocks=blocks).classifier, CPU)
    rows = [7, 3, 3, 19, 0]
    for source_of_features in (source, live):
        block, packing = source_of_features.batch(rows)
        assert packing.sizes == [int(TEXTS.lengths[row]) for row in rows]
        one_by_one = torch.cat([source_of_features.batch([row])[0] for row in rows])
        torch.testing.assert_close(block, one_by_one, rtol=0, atol=1e-5)
    torch.testing.assert_close(source.batch(rows)[0], live.batch(rows)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("blocks", ["head", "1"])
@pytest.mark.parametrize("cached", [True, False])
def test_a_trunk_that_continues_from_a_prefix_gives_the_same_features(blocks: str, cached: bool) -> None:
    """Not one bit differs: the batches and each block's input are the same."""
    whole = trunk_pass(None, train_blocks=blocks).source(TEXTS, "train")
    prefix = Prefix(trunk_pass(None, train_blocks="2").source(TEXTS, "train"), 1)
    continued = trunk_pass(FeatureCache(LIMIT) if cached else None, train_blocks=blocks)
    assert torch.equal(content(continued.source(TEXTS, "train", prefix=prefix)), content(whole))
    live = LiveFeatures(TEXTS, continued.classifier, CPU, prefix)
    torch.testing.assert_close(content(live), content(whole), rtol=0, atol=1e-5)


def test_without_a_cache_features_stay_in_memory_and_nothing_is_written(own_cache: Path) -> None:
    source = trunk_pass(None).source(TEXTS, "train")
    assert isinstance(source, StoredFeatures)
    assert isinstance(source.array, np.ndarray)
    assert torch.equal(content(source), content(trunk_pass(FeatureCache(LIMIT)).source(TEXTS, "train")))
    shutil.rmtree(own_cache / "features")
    trunk_pass(None).source(TEXTS, "train")
    assert list(own_cache.iterdir()) == []


def test_features_that_exceed_memory_are_computed_for_every_batch_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "MEMORY_FRACTION", 1e-12)
    said: list[str] = []
    assert isinstance(trunk_pass(None, said).source(TEXTS, "train"), LiveFeatures)
    assert "train" in said[0]
    assert "memory" in said[0]


def test_the_limit_in_memory_holds_for_all_splits_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "memory_bytes", lambda: 2.5 * TEXTS.n_tokens * C * 4 / features.MEMORY_FRACTION)
    trunk = trunk_pass(None, [])
    kinds = [type(trunk.source(TEXTS, name)) for name in ("train", "validation", "test")]
    assert kinds == [StoredFeatures, StoredFeatures, LiveFeatures]


def test_nothing_is_stored_if_every_block_is_trained(own_cache: Path) -> None:
    source = trunk_pass(FeatureCache(LIMIT), train_blocks="all").source(TEXTS, "train")
    assert content(source).tolist() == TEXTS.token_ids.tolist()
    assert list(own_cache.iterdir()) == []


def test_the_trunk_s_hash_does_not_depend_on_the_tail() -> None:
    """The head, the labels, and the pooling of a trained block belong to the tail."""

    def hash_with(**changes: Any) -> str:
        return trunk_hash(classifier_of(random_gpt(n_embd=C), **changes))

    assert hash_with(labels=("a", "b", "c"), seed=5, read="mean") == hash_with()
    assert hash_with(train_blocks="head", read="mean") != hash_with(train_blocks="head")
    hashes = {hash_with(train_blocks="head", frame=frame) for frame in (((), ()), ((1,), ()), ((), (1,)))}
    assert len(hashes) == 3, "a mean that the trunk computes leaves the frame out"
    assert hash_with(frame=((1,), ())) == hash_with(), "the tokens of a frame are among the texts' own in the key"
