"""oneDNN's private operators: without them, or with others, one warning and the same results."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lasttoken.backbone import onednn
from lasttoken.backbone.linear import Linear
from lasttoken.backbone.onednn import has_onednn, has_packing, int8_passes, round_up

X = torch.randn(20, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def fresh_probes() -> Iterator[None]:
    """The probes run again in the test, and once more in whatever comes after it."""
    for probe in (has_onednn, has_packing, int8_passes):
        probe.cache_clear()
    yield
    for probe in (has_onednn, has_packing, int8_passes):
        probe.cache_clear()


def results() -> list[torch.Tensor]:
    """A layer's output for frozen weights, packed ones, 8-bit ones, and its output and gradient in training."""
    torch.manual_seed(0)
    trained = Linear(96, 160)
    frozen, packed, quantized = (Linear(96, 160).requires_grad_(False) for _ in range(3))
    for other in (frozen, packed, quantized):
        other.load_state_dict(trained.state_dict())
    packed.pack()
    quantized.quantize()
    y = trained(X, gelu=True)
    y.square().sum().backward()
    assert trained.weight.grad is not None
    return [frozen(X, True), packed(X, True), quantized(X, True), y.detach(), trained.weight.grad]


def removed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    patch.setattr(torch.ops, "onednn", SimpleNamespace())


def other_signature(patch: pytest.MonkeyPatch) -> None:
    def linear_pointwise(x: Any, weight: Any, bias: Any) -> Any:
        return F.linear(x, weight, bias)

    patch.setattr(torch.ops, "mkldnn", SimpleNamespace(_linear_pointwise=linear_pointwise))


def other_results(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.ops, "mkldnn", SimpleNamespace(_linear_pointwise=lambda x, weight, *_: x @ weight.t()))


@pytest.mark.usefixtures("fresh_probes")
@pytest.mark.skipif(not has_onednn(), reason="this torch has no oneDNN for x86")
@pytest.mark.parametrize("change", [removed, other_signature, other_results])
def test_operators_that_are_missing_or_changed_warn_once_and_change_no_result(
    change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = results()
    for probe in (has_onednn, has_packing, int8_passes):
        probe.cache_clear()
    change(monkeypatch)
    with pytest.warns(RuntimeWarning, match=f"torch {re.escape(torch.__version__)}.*slower") as caught:
        actual = results()
    assert len(caught) == 1
    assert not has_onednn()
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results()


@pytest.mark.usefixtures("fresh_probes")
@pytest.mark.skipif(not has_packing(), reason="this torch has no packed weights")
@pytest.mark.parametrize(("name", "probe"), [("pack_weight", has_packing), ("pack_int8_weight", int8_passes)])
def test_one_missing_operator_leaves_the_others_in_use(
    name: str, probe: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(weight: object) -> None:
        raise AttributeError(f"no operator for {name}")

    monkeypatch.setattr(onednn, name, missing)
    with pytest.warns(RuntimeWarning, match=f"no operator for {name}"):
        assert not probe()
    assert has_onednn()


@pytest.mark.usefixtures("fresh_probes")
def test_other_processors_are_not_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (has_onednn(), has_packing(), int8_passes()) == (False, False, 0)


def test_only_few_different_numbers_of_rows_are_computed() -> None:
    assert all(n <= round_up(n) <= min(1.125 * n + 16, 2 * n) for n in range(1, 5000))
    assert len({round_up(n) for n in range(257, 1025)}) == 16
    assert len({round_up(n) for n in range(1, 17)}) == 5
