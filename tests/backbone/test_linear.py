"""Linear layers by oneDNN, against torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lasttoken.backbone import onednn
from lasttoken.backbone.linear import Linear


def layer(n_in: int = 96, n_out: int = 160, dtype: torch.dtype = torch.float32) -> Linear:
    torch.manual_seed(0)
    return Linear(n_in, n_out).to(dtype)


def without_bias(dtype: torch.dtype = torch.float32) -> Linear:
    torch.manual_seed(0)
    return Linear(96, 160, bias=False).to(dtype)


def rows(n: int, width: int = 96, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(n, width, dtype=dtype, generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("n", [1, 2, 31, 300])
@pytest.mark.parametrize("gelu", [False, True])
def test_forward_is_torchs(n: int, gelu: bool) -> None:
    one = layer().requires_grad_(False)
    expected = F.linear(rows(n), one.weight, one.bias)
    expected = F.gelu(expected, approximate="tanh") if gelu else expected
    torch.testing.assert_close(one(rows(n), gelu), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 8, 300])
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("trained", ["x", "weight", "both"])
def test_gradients_are_torchs(n: int, gelu: bool, trained: str) -> None:
    found = []
    for own in (True, False):
        one = layer().requires_grad_(trained != "x")
        x = rows(n).requires_grad_(trained != "weight")
        if own:
            y = one(x, gelu)
        else:
            y = F.linear(x, one.weight, one.bias)
            y = F.gelu(y, approximate="tanh") if gelu else y
        (y * rows(n, 160)).sum().backward()
        found.append([x.grad, one.weight.grad, one.bias.grad])
    for ours, theirs in zip(*found, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


def test_a_gradient_in_two_parts_adds_up() -> None:
    one = layer()
    whole = layer()
    whole(rows(40)).square().sum().backward()
    for part in torch.split(rows(40), 13):
        one(part).square().sum().backward()
    assert one.weight.grad is not None
    assert whole.weight.grad is not None
    torch.testing.assert_close(one.weight.grad, whole.weight.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("missing", [True, False])
def test_other_formats_and_other_builds_take_torchs_own(missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing:
        monkeypatch.setattr(onednn, "has_onednn", lambda: False)
    double = layer(dtype=torch.float64)
    x = rows(5, dtype=torch.float64)
    assert torch.equal(double(x), F.linear(x, double.weight, double.bias))
    one = layer()
    with torch.autocast("cpu", torch.bfloat16):
        assert one(rows(5)).dtype == torch.bfloat16
    torch.testing.assert_close(one(rows(5)), F.linear(rows(5), one.weight, one.bias), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not onednn.has_onednn(), reason="this torch has no oneDNN for x86")
def test_onednn_computes_where_it_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(*_: object) -> Tensor:
        raise AssertionError("torch.nn.functional.linear was called")

    monkeypatch.setattr(F, "linear", reject)
    assert layer()(rows(3)).shape == (3, 160)


def test_one_row_alone_and_batches_of_rows() -> None:
    one = layer()
    x = rows(37 * 5).view(37, 5, 96)
    for each in (x, x[0, 0]):
        torch.testing.assert_close(one(each), F.linear(each, one.weight, one.bias), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 8, 300])
@pytest.mark.parametrize("gelu", [False, True])
def test_a_packed_weight_gives_the_same_numbers(n: int, gelu: bool) -> None:
    plain, packed = layer().requires_grad_(False), layer().requires_grad_(False)
    packed.pack()
    assert (packed.packed is not None) == onednn.has_packing()
    torch.testing.assert_close(packed(rows(n), gelu), plain(rows(n), gelu), atol=1e-5, rtol=1e-5)


def test_a_packed_weight_still_gives_gradients_of_its_input_and_can_be_saved() -> None:
    plain, packed = layer().requires_grad_(False), layer().requires_grad_(False)
    packed.pack()
    gradients = []
    for one in (plain, packed):
        x = rows(30).requires_grad_()
        one(x, True).square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)
    assert packed.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(packed.weight, plain.weight)


def test_double_precision_and_missing_operators_leave_a_weight_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    double = layer(dtype=torch.float64).requires_grad_(False)
    double.pack()
    assert double.packed is None
    monkeypatch.setattr(onednn, "has_packing", lambda: False)
    single = layer().requires_grad_(False)
    single.pack()
    assert single.packed is None


@pytest.mark.parametrize("way", ["plain", "trained", "packed", "int8"])
def test_a_layer_without_bias_is_one_with_a_bias_of_zeros(way: str) -> None:
    zeros = layer().requires_grad_(way == "trained")
    zeros.bias.data.zero_()
    bare = without_bias().requires_grad_(way == "trained")
    results = []
    for one in (zeros, bare):
        if way == "packed":
            one.pack()
        elif way == "int8":
            one.quantize()
        y = one(rows(7), True)
        if way == "trained":
            y.square().sum().backward()
        results.append((y.detach(), one.weight.grad))
    torch.testing.assert_close(results[1], results[0])
