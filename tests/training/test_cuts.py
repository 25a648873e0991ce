"""Features after several blocks from one pass: those of a trunk that ends there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from miniature import classifier_of, random_encoded, random_gpt

from lasttoken.core.device import CPU
from lasttoken.training import cuts
from lasttoken.training.cuts import cut_features
from lasttoken.training.depths import DepthFeatures, depth_features
from lasttoken.training.features import TrunkPass


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("trained", ["3", "2", "1"])
def test_tokens_are_those_of_a_trunk_of_so_many_blocks(
    trained: str, on_disk: bool, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if on_disk:
        monkeypatch.setattr(cuts, "memory_bytes", lambda: 1000.0)
    encoded, gpt = random_encoded(9), random_gpt()
    found = cut_features(classifier_of(gpt, train_blocks="head"), encoded, CPU, (0, 1, 2), ())
    trunk = classifier_of(random_gpt(), train_blocks=trained)
    n_frozen = trunk.n_frozen
    assert n_frozen == 3 - int(trained)
    rows = np.arange(9)
    with torch.no_grad():
        expected = trunk.trunk(*encoded.pack(rows, torch.device("cpu")))
    block, _ = found.source(n_frozen, torch.device("cpu")).batch(rows.tolist())
    torch.testing.assert_close(block, expected, atol=1e-5, rtol=1e-5)
    assert isinstance(found.tokens[n_frozen], np.memmap) == on_disk
    assert not list(own_cache.rglob("tmp*")), "the file has no name"


def test_vectors_are_those_of_the_comparison_of_depths() -> None:
    encoded = random_encoded(7)
    classifier = classifier_of(random_gpt(), train_blocks="head")
    found = cut_features(classifier, encoded, CPU, (), (1, 3))
    expected: DepthFeatures = depth_features(TrunkPass(classifier, CPU, cache=None, say=print), encoded, (1, 3))
    for depth in (1, 3):
        np.testing.assert_allclose(found.vectors[depth], expected.at(depth), atol=1e-5)
    assert not found.tokens
