"""Linear layers by oneDNN and in 8 bits, against torch's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lasttoken.backbone import linear as module
from lasttoken.backbone.linear import Linear, has_onednn, round_up


def layer(n_in: int = 96, n_out: int = 160, dtype: torch.dtype = torch.float32) -> Linear:
    torch.manual_seed(0)
    return Linear(n_in, n_out).to(dtype)


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
        monkeypatch.setattr(module, "has_onednn", lambda: False)
    double = layer(dtype=torch.float64)
    x = rows(5, dtype=torch.float64)
    assert torch.equal(double(x), F.linear(x, double.weight, double.bias))
    one = layer()
    with torch.autocast("cpu", torch.bfloat16):
        assert one(rows(5)).dtype == torch.bfloat16
    torch.testing.assert_close(one(rows(5)), F.linear(rows(5), one.weight, one.bias), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not has_onednn(), reason="this torch has no oneDNN for x86")
def test_onednn_is_what_computes_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("torch.nn.functional.linear was called")

    monkeypatch.setattr(F, "linear", refuse)
    assert layer()(rows(3)).shape == (3, 160)


def test_one_row_alone_and_batches_of_rows() -> None:
    one = layer()
    x = rows(37 * 5).view(37, 5, 96)
    for each in (x, x[0, 0]):
        torch.testing.assert_close(one(each), F.linear(each, one.weight, one.bias), atol=1e-5, rtol=1e-5)


def test_few_numbers_of_rows_are_ever_computed() -> None:
    assert all(n <= round_up(n) <= min(1.125 * n + 16, 2 * n) for n in range(1, 5000))
    assert len({round_up(n) for n in range(257, 1025)}) == 16
    assert len({round_up(n) for n in range(1, 17)}) == 5


# ---------------------------------------------------------------------- 8 bits


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
    if passes > module.int8_passes() == 0:
        pytest.skip("needs oneDNN's 8-bit matrix multiplication, which this build of torch lacks")
    expected = quantized()(rows(20))
    monkeypatch.setattr(module, "int8_passes", lambda: passes)
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


def test_what_is_trained_cannot_be_quantized() -> None:
    with pytest.raises(AssertionError):
        layer().quantize()


def test_the_float32_weight_is_what_is_saved() -> None:
    assert quantized().state_dict().keys() == layer().state_dict().keys()
    assert torch.equal(quantized().state_dict()["weight"], layer().weight)


@pytest.mark.parametrize("n", [1, 8, 300])
@pytest.mark.parametrize("gelu", [False, True])
def test_a_packed_weight_gives_the_same_numbers(n: int, gelu: bool) -> None:
    plain, packed = layer().requires_grad_(False), layer().requires_grad_(False)
    packed.pack()
    assert (packed.packed is not None) == module.has_packing()
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
    monkeypatch.setattr(module, "has_packing", lambda: False)
    single = layer().requires_grad_(False)
    single.pack()
    assert single.packed is None


def test_pages_of_a_mapped_file_are_given_back_and_read_again(tmp_path: Path) -> None:
    save_file({"weight": torch.arange(1 << 20, dtype=torch.float32)}, tmp_path / "weights.safetensors")
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        weight = file.get_tensor("weight")
    own = torch.arange(1 << 20, dtype=torch.float32)
    module.drop_mapped_pages([weight, own])
    assert torch.equal(weight, own)
