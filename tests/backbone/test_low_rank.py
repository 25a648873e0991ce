"""An update of low rank: its output and gradients, against a weight that is W + s·B·A, differentiated by torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lasttoken.backbone.half import HALF
from lasttoken.backbone.linear import Linear

N, IN, OUT, RANK = 11, 24, 18, 3


def layer_of(dtype: torch.dtype = torch.float64, bias: bool = True, parts: int = 1) -> Linear:
    torch.manual_seed(1)
    layer = Linear(IN, OUT, bias=bias).to(torch.promote_types(dtype, torch.float32))
    if dtype in HALF:
        layer.weight.data = layer.weight.data.to(dtype)
    update = layer.add_low_rank(RANK, 0.5, parts)
    update.draw()
    nn.init.normal_(update.lora_B)
    return layer


def plain(layer: Linear, x: Tensor, gelu: bool) -> Tensor:
    """The same with torch's own linear layer on the sum of weight and update, part by part."""
    update = layer.low_rank
    assert update is not None
    pairs = zip(update.lora_A.chunk(update.parts), update.lora_B.chunk(update.parts), strict=True)
    weight = layer.weight.to(x.dtype) + torch.cat([update.scale * b @ a for a, b in pairs])
    y = F.linear(x, weight, layer.bias)
    return F.gelu(y, approximate="tanh") if gelu else y


def gradients(layer: Linear, y: Tensor, x: Tensor) -> list[Tensor]:
    update = layer.low_rank
    assert update is not None
    return list(torch.autograd.grad((y * torch.linspace(-1, 1, OUT).to(y)).sum(), [x, update.lora_A, update.lora_B]))


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-5)], ids=str
)
def test_output_and_gradients_are_those_of_the_sum(
    dtype: torch.dtype, tolerance: float, bias: bool, parts: int, gelu: bool
) -> None:
    layer = layer_of(dtype, bias, parts)
    x = torch.randn(N, IN, dtype=layer.effective_weight.dtype, requires_grad=True)
    y, expected = layer(x, gelu), plain(layer, x, gelu)
    torch.testing.assert_close(y, expected, atol=tolerance, rtol=0)
    for ours, theirs in zip(gradients(layer, y, x), gradients(layer, expected, x), strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance * 10, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, gelu), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_weight_gives_the_same(dtype: torch.dtype) -> None:
    layer, packed = layer_of(dtype), layer_of(dtype)
    packed.pack()
    results = []
    for each in (layer, packed):
        x = torch.linspace(-1, 1, N * IN).view(N, IN).requires_grad_()
        y = each(x)
        results.append([y, *gradients(each, y, x)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_the_weight_is_frozen_and_an_input_without_gradient_gets_none() -> None:
    layer = layer_of(torch.float32)
    x = torch.randn(N, IN)
    layer(x).sum().backward()
    update = layer.low_rank
    assert update is not None
    assert layer.weight.grad is None
    assert layer.bias.grad is None
    assert x.grad is None
    assert update.lora_A.grad is not None
    assert update.lora_B.grad is not None


def test_under_autocast_it_is_near() -> None:
    layer = layer_of(torch.float32)
    x = torch.randn(N, IN, requires_grad=True)
    expected = plain(layer, x, False)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        assert y.dtype == torch.bfloat16
        assert layer.effective_weight.dtype == torch.float32
    torch.testing.assert_close(y.float(), expected, atol=0.05, rtol=0.05)


def test_a_drawn_update_is_zero_and_merging_ends_it() -> None:
    layer = Linear(IN, OUT)
    before, x = layer.weight.detach().clone(), torch.randn(N, IN)
    update = layer.add_low_rank(RANK, 2.0)
    update.draw()
    assert 0.8 * IN**-0.5 < update.lora_A.abs().max() <= IN**-0.5
    assert torch.equal(layer.effective_weight, before)
    nn.init.normal_(update.lora_B)
    with torch.no_grad():
        expected = layer(x)
    layer.merge()
    assert layer.low_rank is None
    assert torch.equal(layer(x), expected)
    assert not torch.equal(layer.weight, before)


def test_a_is_drawn_as_peft_draws_it() -> None:
    from peft import LoraConfig
    from peft.tuners.lora import Linear as PeftLinear

    peft: Any = PeftLinear(nn.Linear(IN, OUT), adapter_name="default", r=RANK, config=LoraConfig(r=RANK))
    torch.manual_seed(5)
    peft.reset_lora_parameters("default", True)
    update = Linear(IN, OUT).add_low_rank(RANK, 1.0)
    torch.manual_seed(5)
    update.draw()
    assert torch.equal(update.lora_A, peft.lora_A["default"].weight)
    assert torch.equal(update.lora_B, peft.lora_B["default"].weight)


def test_the_book_draws_a_transposed_and_wider() -> None:
    torch.manual_seed(5)
    expected = torch.empty(IN, RANK)
    nn.init.kaiming_uniform_(expected, a=5**0.5)
    torch.manual_seed(5)
    layer = layer_of()
    update = layer.low_rank
    assert update is not None
    torch.manual_seed(5)
    update.draw(like_book=True)
    torch.testing.assert_close(update.lora_A.t(), expected.double(), atol=1e-7, rtol=0)
