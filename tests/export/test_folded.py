"""Bias and temperature of the head move into other weights without changing a logit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import classifier_of, random_gpt

from lasttoken.core.errors import SettingsError
from lasttoken.export.folded import fold


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 10), st.integers(0, 1000), st.floats(0.25, 16, allow_subnormal=False))
def test_bias_and_temperature_are_in_other_weights(n_labels: int, seed: int, temperature: float) -> None:
    classifier = classifier_of(random_gpt(n_embd=32), labels=tuple("abcdefghij"[:n_labels]), seed=seed)
    object.__setattr__(classifier.config, "temperature", temperature)
    with torch.no_grad():
        classifier.head.bias.normal_(generator=torch.Generator().manual_seed(seed))
    folded = fold(classifier)
    normed = torch.randn(7, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ln_f = classifier.decoder.get_parameter("ln_f.bias").double()
    head = classifier.head
    ours = ((normed + ln_f) @ head.weight.double().t() + head.bias.double()) / temperature
    theirs = (normed + folded.decoder["ln_f.bias"].double()) @ folded.head_weight.double().t()
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)


def test_linearly_dependent_weights_are_rejected() -> None:
    classifier = classifier_of(random_gpt(), labels=("a", "b"))
    with torch.no_grad():
        classifier.head.weight[1] = classifier.head.weight[0]
        classifier.head.bias.copy_(torch.tensor([0.0, 1.0]))
    with pytest.raises(SettingsError, match=r"cannot be folded .* --to onnx"):
        fold(classifier)
