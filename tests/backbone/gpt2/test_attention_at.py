"""Attention at one token: the same as the usual order, forward and backward."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lasttoken.backbone.gpt2.attention_at import attention_at
from lasttoken.backbone.packing import Packing

WIDTH, HEADS = 24, 3


def usual(x: Tensor, packing: Packing, at: Tensor, weight: Tensor, bias: Tensor, n_head: int, causal: bool) -> Tensor:
    """Queries, keys and values of every token, text by text."""
    found = []
    for start, size, place in zip(packing.starts.tolist(), packing.sizes, at.tolist(), strict=True):
        text = x[start : start + size]
        q, k, v = (text @ weight.t() + bias).view(size, 3, n_head, -1).permute(1, 2, 0, 3)  # each [H, t, D]
        end = place + 1 if causal else size
        a = (q[:, place : place + 1] @ k[:, :end].transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1)
        found.append((a @ v[:, :end]).transpose(0, 1).reshape(-1))
    return torch.stack(found)


def problem(sizes: list[int], dtype: torch.dtype) -> tuple[Packing, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(sizes))
    x, weight, bias, out = (
        torch.randn(*shape, dtype=dtype, generator=generator)
        for shape in ((sum(sizes), WIDTH), (3 * WIDTH, WIDTH), (3 * WIDTH,), (len(sizes), WIDTH))
    )
    return Packing(sizes), x, weight / 4, bias, out


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("position", ["first", "last", "between"])
@pytest.mark.parametrize("sizes", [[1], [5], [3, 1, 7], [4, 4, 4]])
def test_output_and_gradients_are_those_of_the_usual_order(sizes: list[int], position: str, causal: bool) -> None:
    packing, x, weight, bias, out = problem(sizes, torch.float64)
    at = {"first": 0 * packing.lengths, "last": packing.lengths - 1, "between": packing.lengths // 2}[position]
    found = []
    for attend in (attention_at, usual):
        leaves = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
        y = attend(leaves[0], packing, at, leaves[1], leaves[2], HEADS, causal)
        (y * out).sum().backward()  # type: ignore[no-untyped-call]
        found.append([y.detach(), *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-9)
    of_bias = found[0][3]
    assert of_bias is not None
    assert (of_bias[WIDTH : 2 * WIDTH] == 0).all()  # of the keys: none at all, where the usual order has noise


def test_gradients_agree_with_finite_differences() -> None:
    packing, x, weight, bias, _ = problem([3, 2], torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (x, weight, bias)]

    def attend(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return attention_at(x, packing, packing.lengths - 1, weight, bias, HEADS, True)

    assert torch.autograd.gradcheck(attend, leaves)


def test_only_requested_gradients_are_computed() -> None:
    packing, x, weight, bias, out = problem([3, 1, 7], torch.float32)
    weight.requires_grad_()
    (attention_at(x, packing, packing.lengths - 1, weight, bias, HEADS, True) * out).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert x.grad is None
    assert bias.grad is None


def test_autocast_computes_it_in_the_weights_format() -> None:
    packing, x, weight, bias, _ = problem([3, 1, 7], torch.float32)
    expected = attention_at(x, packing, packing.lengths - 1, weight, bias, HEADS, True)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attention_at(x, packing, packing.lengths - 1, weight, bias, HEADS, True), expected)
