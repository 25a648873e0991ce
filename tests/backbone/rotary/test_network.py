"""The blocks against a plain form, one text at a time: outputs and gradients, with every switch on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rotary_miniatures import ROTARY_MINIATURES
from torch import Tensor

from lasttoken.backbone.linear import Linear
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.rotary.config import RotaryConfig
from lasttoken.backbone.rotary.network import NORMS, RotaryBlock, RotaryDecoder
from lasttoken.backbone.rotary.rope import frequencies

LENGTHS = [7, 1, 24, 5, 24, 2]


@pytest.fixture(params=sorted(ROTARY_MINIATURES))
def config(request: pytest.FixtureRequest) -> RotaryConfig:
    return ROTARY_MINIATURES[request.param]


def random_decoder(config: RotaryConfig, dtype: torch.dtype = torch.float64) -> RotaryDecoder:
    decoder, generator = RotaryDecoder(config), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(0.5, 0.3, generator=generator))
            if parameter.dim() > 1:
                parameter.sub_(0.5)
    return decoder.to(dtype)


def plain_norm(config: RotaryConfig, x: Tensor, weight: Tensor) -> Tensor:
    if config.norm == "layer":
        x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + config.norm_epsilon).sqrt()
    return x * (1 + weight if config.norm_plus_one else weight)


def plain_turn(config: RotaryConfig, layer: int, x: Tensor) -> Tensor:
    """All heads of one text, [T, heads, D], turned as complex numbers."""
    rope, half = config.rope_of(layer), config.head_dim // 2
    if rope is None:
        return x
    angles = torch.arange(len(x))[:, None, None] * frequencies(rope, config.head_dim)
    cos, sin = (
        part.to(x.dtype) for part in (angles.cos() * rope.attention_factor, angles.sin() * rope.attention_factor)
    )
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.complex(cos, sin)
    return torch.cat((turned.real, turned.imag), -1)


def plain_attention(config: RotaryConfig, layer: int, w: Mapping[str, Tensor], x: Tensor, causal: bool) -> Tensor:
    """One text, [T, C] -> [T, C]."""

    def project(name: str, n_heads: int) -> Tensor:
        y = x @ w[f"self_attn.{name}_proj.weight"].t() + w.get(f"self_attn.{name}_proj.bias", 0)
        norm = w.get(f"self_attn.{name}_norm.weight")
        if norm is not None and config.qk_norm == "full":
            y = plain_norm(config, y, norm)
        y = y.view(len(x), n_heads, config.head_dim)
        return plain_norm(config, y, norm) if norm is not None and config.qk_norm == "head" else y

    q, k, v = project("q", config.n_head), project("k", config.n_kv_heads), project("v", config.n_kv_heads)
    q, k = plain_turn(config, layer, q), plain_turn(config, layer, k)
    k, v = (part.repeat_interleave(config.n_head // config.n_kv_heads, 1) for part in (k, v))
    scores = torch.einsum("ihd,jhd->hij", q, k) * (config.attention_scale or 1 / math.sqrt(config.head_dim))
    behind = torch.arange(len(x))[:, None] - torch.arange(len(x))
    hidden = (behind.abs() >= (config.window_of(layer) or len(x))) | (behind < 0 if causal else behind < -len(x))
    y = torch.einsum("hij,jhd->ihd", scores.masked_fill(hidden, -math.inf).softmax(-1), v).flatten(1)
    return y @ w["self_attn.o_proj.weight"].t() + w.get("self_attn.o_proj.bias", 0)


def plain_block(config: RotaryConfig, layer: int, w: Mapping[str, Tensor], x: Tensor, causal: bool) -> Tensor:
    """One block on one text, [T, C] -> [T, C]."""
    activations: dict[str, Any] = {
        "silu": lambda y: y / (1 + torch.exp(-y)),
        "gelu": F.gelu,
        "gelu_tanh": lambda y: 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3))),
    }

    def norm(place: int, y: Tensor) -> Tensor:
        weight = w.get(f"{NORMS[config.norm_at][place]}.weight")
        return y if weight is None else plain_norm(config, y, weight)

    def linear(name: str, y: Tensor) -> Tensor:
        return y @ w[f"mlp.{name}_proj.weight"].t() + w.get(f"mlp.{name}_proj.bias", 0)

    x = x + config.residual_multiplier * norm(1, plain_attention(config, layer, w, norm(0, x), causal))
    y = norm(2, x)
    y = linear("down", activations[config.activation](linear("gate", y)) * linear("up", y))
    return x + config.residual_multiplier * norm(3, y)


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both sides"])
def test_a_block_and_its_gradients_are_those_of_the_plain_form(config: RotaryConfig, causal: bool) -> None:
    decoder, packing = random_decoder(config), Packing(LENGTHS)
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(sum(LENGTHS), config.n_embd, dtype=torch.float64, generator=generator)
    direction = torch.randn(inputs.shape, dtype=torch.float64, generator=generator)
    position = packing.lengths - 1 if causal else packing.lengths // 2
    rows = packing.starts + position
    for layer, block in enumerate(decoder.blocks):
        weights = dict(block.named_parameters())
        results: list[list[Tensor]] = []
        for form in ("plain", "all", "plain at one", "at one"):
            x = inputs.clone().requires_grad_()
            if form.startswith("plain"):
                y = torch.cat([plain_block(config, layer, weights, text, causal) for text in torch.split(x, LENGTHS)])
                y = y[rows] if form == "plain at one" else y
            else:
                y = block(x, packing, causal) if form == "all" else block.forward_at(x, packing, position, causal)
            scalar = (y * (direction if len(y) == len(x) else direction[rows])).sum()
            results.append([y, *torch.autograd.grad(scalar, [x, *weights.values()])])
        for expected, found in (results[:2], results[2:]):
            for a, b in zip(expected, found, strict=True):
                torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


@torch.no_grad()
def test_a_text_does_not_depend_on_its_batch(config: RotaryConfig) -> None:
    decoder = random_decoder(config)
    texts = [torch.arange(length) * 7 % config.vocab_size for length in LENGTHS]
    for causal in (True, False):
        together = decoder(torch.cat(texts), Packing(LENGTHS), causal)
        alone = torch.cat([decoder(text, Packing([len(text)]), causal) for text in texts])
        torch.testing.assert_close(together, alone, atol=1e-9, rtol=0)


@torch.no_grad()
def test_the_frozen_form_is_the_trained_one(config: RotaryConfig) -> None:
    """Without gradients the activation reuses memory, and packed matrices are multiplied: results are the same."""
    decoder, packing = random_decoder(config, torch.float32), Packing(LENGTHS)
    x = torch.randn(sum(LENGTHS), config.n_embd, generator=torch.Generator().manual_seed(2))
    block = decoder.blocks[1]
    with torch.enable_grad():
        trained = block(x.requires_grad_(), packing, True).detach()
    block.requires_grad_(False)
    torch.testing.assert_close(block(x.detach(), packing, True), trained, atol=1e-5, rtol=1e-5)
    for module in block.modules():
        if isinstance(module, Linear):
            module.pack()
    torch.testing.assert_close(block(x.detach(), packing, True), trained, atol=1e-5, rtol=1e-5)


def test_all_matrices_of_a_block_can_be_packed_and_quantized(config: RotaryConfig) -> None:
    block = random_decoder(config).blocks[0]
    assert isinstance(block, RotaryBlock)
    linear = {f"{name}.weight" for name, module in block.named_modules() if isinstance(module, Linear)}
    assert linear == {name for name, parameter in block.named_parameters() if parameter.dim() > 1}
    assert len(linear) == 7


def test_a_cut_config_keeps_the_kinds_of_its_blocks() -> None:
    config = ROTARY_MINIATURES["smollm3"]
    assert (config.window_of(1), config.rope_of(1)) == (6, None)
    cut = config.cut_to(1)
    assert (cut.n_layer, cut.window, cut.windowed_blocks, cut.blocks_without_rope) == (1, 0, (), ())
    assert cut.rope_of(0) == config.rope_of(0) == config.rope
    gemma = ROTARY_MINIATURES["gemma3_text"]
    assert [gemma.rope_of(layer) for layer in range(3)] == [gemma.local_rope, gemma.rope, gemma.local_rope]


def test_autocast_computes_nearly_the_same_and_has_gradients(config: RotaryConfig) -> None:
    decoder, packing = random_decoder(config, torch.float32), Packing(LENGTHS)
    x = torch.randn(sum(LENGTHS), config.n_embd, generator=torch.Generator().manual_seed(2), requires_grad=True)
    block, position = decoder.blocks[1], packing.lengths - 1
    expected = [block(x, packing, True), block.forward_at(x, packing, position, True)]
    with torch.autocast("cpu", torch.bfloat16):
        found = [block(x, packing, True), block.forward_at(x, packing, position, True)]
    for exact, rough in zip(expected, found, strict=True):
        assert float(((rough.float() - exact).norm() / exact.norm()).detach()) < 0.05
        assert torch.autograd.grad(rough.float().sum(), x)[0].isfinite().all()
