"""Weights in 8 bits, against the formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lasttoken.backbone import onednn
from lasttoken.backbone.linear import Linear


def layer() -> Linear:
    torch.manual_seed(0)
    return Linear(96, 160)


def rows(n: int) -> Tensor:
    return torch.randn(n, 96, generator=torch.Generator().manual_seed(n))


def quantized() -> Linear:
    one = layer().requires_grad_(False)
    one.quantize()
    return one


def test_int8_is_near_float32() -> None:
    expected = F.linear(rows(64), layer().weight, layer().bias)
    error = (quantized()(rows(64)) - expected).abs().max()
    assert 0 < error < 0.02 * expected.abs().max()


def test_an_int8_row_does_not_depend_on_the_rows_beside_it() -> None:
    one = quantized()
    x = rows(32)
    x[3] *= 1000  # a scale for the whole tensor would leave nothing of the others
    together = one(x)
    alone = torch.cat([one(row[None]) for row in x])
    assert torch.equal(together, alone)


def test_int8_rows_of_zeros_and_of_very_small_numbers() -> None:
    one = quantized()
    x = torch.zeros(3, 96)
    x[1] = 1e-30
    torch.testing.assert_close(one(x), one.bias.expand(3, -1))


@pytest.mark.parametrize("passes", [0, 2])
def test_int8_gives_the_same_numbers_on_every_processor(passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """0: without oneDNN. 2: without VNNI, in two halves."""
    if passes > onednn.int8_passes() == 0:
        pytest.skip("needs oneDNN's 8-bit matrix multiplication, which this build of torch lacks")
    expected = quantized()(rows(20))
    monkeypatch.setattr(onednn, "int8_passes", lambda: passes)
    torch.testing.assert_close(quantized()(rows(20)), expected, atol=1e-6, rtol=1e-6)


def test_int8_follows_the_formula() -> None:
    one, x = layer().requires_grad_(False), rows(7)
    s_x, s_w = x.abs().amax(1) / 127, one.weight.abs().amax(1) / 127
    q_x = (x / s_x[:, None] + 0.5).floor().double()
    q_w = (one.weight / s_w[:, None]).round().double()
    expected = (q_x @ q_w.t()) * s_x[:, None] * s_w + one.bias
    torch.testing.assert_close(quantized()(x), expected.float(), atol=1e-5, rtol=1e-5)


def test_a_transposed_view_quantizes_to_the_same() -> None:
    one = layer().requires_grad_(False)
    one.weight.data = one.weight.data.t().contiguous().t()
    one.quantize()
    assert torch.equal(one(rows(20)), quantized()(rows(20)))


def test_trainable_weights_cannot_be_quantized() -> None:
    with pytest.raises(AssertionError):
        layer().quantize()


def test_the_float32_weight_is_saved() -> None:
    assert quantized().state_dict().keys() == layer().state_dict().keys()
    assert torch.equal(quantized().state_dict()["weight"], layer().weight)
