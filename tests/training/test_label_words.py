"""A head from the language model's rows for the labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from miniature import random_gpt, small_tokenizer

from lasttoken.training.label_words import label_rows, target_of


@pytest.mark.parametrize("tied", [True, False])
def test_the_logits_are_those_of_the_language_model_for_the_words(tied: bool) -> None:
    gpt, tokenizer = random_gpt(tied=tied), small_tokenizer()
    rows = label_rows(gpt, tokenizer, ["the", "in_out"])
    hidden = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
    logits = gpt.logits(hidden).detach()
    of_words = torch.stack([logits[:, tokenizer.encode(word)].mean(1) for word in (" the", " in out")], 1)
    expected = of_words - of_words.mean(1, keepdim=True)
    np.testing.assert_allclose(hidden.numpy() @ rows.T, expected.numpy(), atol=1e-4)


def test_the_scale_is_the_spread_of_the_logits() -> None:
    rows = label_rows(random_gpt(), small_tokenizer(), ["the", "inner"])
    features = np.random.default_rng(1).normal(size=(50, 32)).astype(np.float32)
    target = target_of(rows, features, "mean", 2.0)
    assert (features @ target.T).std(0).mean() == pytest.approx(2.0, rel=1e-4)
    both = target_of(rows, np.concatenate([features, features], axis=1), "last+mean", 2.0)
    np.testing.assert_allclose(both[:, :32], target, rtol=1e-5)
    assert not both[:, 32:].any()
