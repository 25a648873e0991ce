"""Features of all depths equal what a classifier of each depth reads, cached or not."""

from __future__ import annotations

import numpy as np
import pytest
from miniature import classifier_of, random_encoded, random_gpt

from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.frame import Frame
from lasttoken.core.device import CPU
from lasttoken.training.depths import depth_features, depths_to_try, pooled
from lasttoken.training.feature_cache import FeatureCache
from lasttoken.training.features import TrunkPass
from lasttoken.training.linear_training import head_inputs

N_LAYER = 4


def cut(depth: int) -> Decoder:
    """The network of the first blocks."""
    gpt = random_gpt(n_layer=N_LAYER)
    gpt.h = gpt.h[:depth]
    gpt.config = gpt.config.cut_to(depth)
    return gpt


@pytest.mark.parametrize("read", ["last", "mean", "last+mean", "first", "padded-mean"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("is_cached", [True, False])
@pytest.mark.parametrize("frame", [((), ()), ((4, 5), (6,))], ids=["bare", "framed"])
def test_every_depth_is_what_a_shorter_network_reads(read: str, causal: bool, is_cached: bool, frame: Frame) -> None:
    encoded, depths = random_encoded(9, 12), [1, 3, 4]
    whole = classifier_of(
        random_gpt(n_layer=N_LAYER),
        train_blocks="head",
        read=read if read in ("first", "padded-mean") else "last",  # as runs/choice.py explores
        causal_mask=causal,
        frame=frame,
    )
    trunk = TrunkPass(whole, CPU, cache=FeatureCache() if is_cached else None, say=pytest.fail)
    for _ in range(2):  # computed, then from the cache
        found = depth_features(trunk, encoded, depths)
        for depth in depths:
            classifier = classifier_of(cut(depth), train_blocks="head", read=read, causal_mask=causal, frame=frame)
            source = TrunkPass(classifier, CPU, cache=None, say=pytest.fail).source(encoded, "train")
            np.testing.assert_allclose(pooled(found.at(depth), read), head_inputs(classifier, source, CPU), atol=1e-5)


def test_other_depths_or_texts_are_other_entries_of_the_cache() -> None:
    classifier = classifier_of(random_gpt(n_layer=N_LAYER), train_blocks="head")
    trunk = TrunkPass(classifier, CPU, cache=FeatureCache(), say=pytest.fail)
    first = depth_features(trunk, random_encoded(5, 8), [1, 2]).at(2)
    assert not np.allclose(depth_features(trunk, random_encoded(5, 8), [1, 3]).at(3), first)
    assert len(depth_features(trunk, random_encoded(6, 8, seed=2), [1, 2]).at(2)) == 6


def test_deep_backbones_are_tried_at_some_depths_only() -> None:
    for n_blocks in range(1, 60):
        tried = depths_to_try(n_blocks)
        assert tried == sorted(set(tried))
        assert 1 <= tried[0] <= tried[-1] <= n_blocks
        assert len(tried) <= 12
