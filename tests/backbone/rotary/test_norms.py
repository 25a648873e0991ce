"""RMSNorm: torch's own operator, and its gradient by autograd, are the truth."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lasttoken.backbone.rotary.norms import RMSNorm


@pytest.mark.parametrize("plus_one", [False, True])
@pytest.mark.parametrize("shape", [(5, 8), (3, 2, 8)], ids=str)
def test_value_and_gradients_are_those_of_torch(shape: tuple[int, ...], plus_one: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    norm = RMSNorm(8, 1e-3, plus_one).double()
    x = torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
    direction = torch.randn(shape, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(8, generator=generator))
    theirs = F.rms_norm(x, (8,), norm.weight + 1 if plus_one else norm.weight, 1e-3)
    results = [[y, *torch.autograd.grad((y * direction).sum(), [x, norm.weight])] for y in (norm(x), theirs)]
    for pair in zip(*results, strict=True):
        torch.testing.assert_close(*pair, atol=1e-12, rtol=0)
    with torch.no_grad():
        assert torch.equal(norm(x), results[0][0]), "the trained and the frozen form are the same"


def test_only_what_is_asked_for_has_a_gradient() -> None:
    norm, x = RMSNorm(4, 1e-5, plus_one=False), torch.randn(3, 4)
    with torch.no_grad():
        norm.weight.fill_(1.0)
    norm(x).sum().backward()
    assert x.grad is None
    assert norm.weight.grad is not None
    norm.requires_grad_(False)
    (gradient,) = torch.autograd.grad(norm(x.requires_grad_()).sum(), x)
    assert gradient.shape == x.shape


def test_numbers_of_16_bits_are_computed_in_float32() -> None:
    norm, x = RMSNorm(4, 1e-5, plus_one=False), torch.randn(3, 4).bfloat16()
    with torch.no_grad():
        norm.weight.fill_(2.0)
        assert torch.equal(norm(x), norm(x.float()))
