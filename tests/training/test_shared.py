"""Features in memory: the trunk runs once for each text, up to a limit, and for each trunk anew."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from miniature import classifier_of, random_encoded, random_gpt

from lasttoken.classifier.encoding import Encoded
from lasttoken.core.device import CPU
from lasttoken.training.features import TrunkPass
from lasttoken.training.shared import SharedFeatures

TEXTS = random_encoded(12)


def trunk(seed: int = 1, **changes: Any) -> TrunkPass:
    return TrunkPass(classifier_of(random_gpt(seed=seed), **changes), CPU, cache=None, say=pytest.fail)


def rows_of(rows: list[int]) -> Encoded:
    return Encoded(TEXTS.ids_of(rows), TEXTS.lengths[rows], TEXTS.cut[rows], 0)


def test_the_trunk_runs_for_new_texts_only_and_rows_keep_their_order() -> None:
    shared = SharedFeatures()
    shared.pool(trunk(), rows_of([0, 1, 2, 3]), "train")
    assert shared.n_new == 4
    pool = shared.pool(trunk(), rows_of([9, 3, 3, 0, 8]), "validation")
    assert shared.n_new == 2
    direct = trunk().source(rows_of([9, 3, 3, 0, 8]), "validation")
    torch.testing.assert_close(pool.batch([0, 1, 2, 3, 4])[0], direct.batch([0, 1, 2, 3, 4])[0], rtol=0, atol=1e-5)
    assert pool.encoded.token_ids.tolist() == direct.encoded.token_ids.tolist()


def test_a_text_that_occurs_twice_runs_once() -> None:
    shared = SharedFeatures()
    shared.pool(trunk(), rows_of([5, 5, 5]), "train")
    assert shared.n_new == 1


def test_another_trunk_starts_empty() -> None:
    shared = SharedFeatures()
    for seed, n_new in ((1, 3), (1, 0), (2, 3)):
        shared.pool(trunk(seed), rows_of([0, 1, 2]), "train")
        assert shared.n_new == n_new


def test_beyond_the_limit_earlier_features_are_dropped() -> None:
    n_bytes = 4 * 32 * TEXTS.n_tokens
    for limit, n_new in ((n_bytes, 0), (n_bytes - 1, 6)):
        shared = SharedFeatures(limit)
        for rows in (range(6), range(6, 12)):
            shared.pool(trunk(), rows_of(list(rows)), "train")
        shared.pool(trunk(), rows_of(list(range(6))), "train")
        assert shared.n_new == n_new


def test_where_all_blocks_train_nothing_is_kept() -> None:
    shared = SharedFeatures()
    for _ in range(2):
        shared.pool(trunk(train_blocks="all"), rows_of([0, 1]), "train")
        assert shared.n_new == 2
