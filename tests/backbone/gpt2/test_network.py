"""GPT-2's network against the definition, written out a head and a token at a time."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from miniature import random_gpt
from torch import Tensor

from lasttoken.backbone.gpt2.network import GPT2, Attention, GPT2Block, GPT2Config
from lasttoken.backbone.packing import Packing

RAGGED = [7, 1, 24, 5, 24, 2]
UNIFORM = [9, 9, 9]


def random_texts(lengths: list[int], vocab_size: int, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(vocab_size, (length,), generator=generator) for length in lengths]


def explicit_attention(attention: Attention, x: Tensor, causal: bool) -> Tensor:
    """Attention over one text [T, C], a head and a token at a time, as the definition reads."""
    q, k, v = (part.view(len(x), attention.n_head, -1) for part in attention.c_attn(x).chunk(3, -1))
    rows = []
    for t in range(len(x)):
        seen = slice(t + 1) if causal else slice(None)
        heads = []
        for head in range(attention.n_head):
            scores = k[seen, head] @ q[t, head] / math.sqrt(q.shape[-1])
            heads.append(torch.exp(scores - scores.logsumexp(0)) @ v[seen, head])
        rows.append(attention.c_proj(torch.cat(heads)))
    return torch.stack(rows)


def explicit_gpt(gpt: GPT2, token_ids: Tensor, causal: bool) -> Tensor:
    """Hidden [T, C] of one text, written out."""
    x = gpt.wte.weight[token_ids] + gpt.wpe.weight[: len(token_ids)]
    for block in gpt.h:
        assert isinstance(block, GPT2Block)
        x = x + explicit_attention(block.attn, block.ln_1(x), causal)
        inner = block.mlp.c_fc(block.ln_2(x))
        gelu = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        x = x + block.mlp.c_proj(gelu)
    return F.layer_norm(x, (x.shape[-1],), gpt.ln_f.weight, gpt.ln_f.bias, gpt.config.layer_norm_epsilon)


@pytest.mark.parametrize("lengths", [RAGGED, UNIFORM], ids=["ragged", "uniform"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "no-mask"])
def test_it_computes_the_definition_of_attention_with_and_without_a_causal_mask(
    causal: bool, lengths: list[int]
) -> None:
    gpt = random_gpt(dtype=torch.float64)
    texts = random_texts(lengths, gpt.config.vocab_size)
    ours = gpt(torch.cat(texts), Packing(lengths), causal)
    torch.testing.assert_close(ours, torch.cat([explicit_gpt(gpt, text, causal) for text in texts]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("lengths", [RAGGED, UNIFORM], ids=["ragged", "uniform"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "no-mask"])
def test_one_token_equals_the_whole_block_there_with_its_gradients(causal: bool, lengths: list[int]) -> None:
    block = random_gpt(dtype=torch.float64).h[0]
    assert isinstance(block, GPT2Block)
    block.requires_grad_(True)
    packing = Packing(lengths)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(packing.n_tokens, 32, dtype=torch.float64, generator=generator, requires_grad=True)
    at = torch.tensor([length // 2 for length in lengths])
    pull = torch.randn(len(lengths), 32, dtype=torch.float64, generator=generator)  # a gradient that favours no number

    full = block(x, packing, causal)[packing.starts + at]
    read = block.forward_at(x, packing, at, causal)
    torch.testing.assert_close(read, full, rtol=0, atol=1e-10)

    inputs = {"x": x, **dict(block.named_parameters())}
    wanted, got = (
        dict(zip(inputs, torch.autograd.grad((found * pull).sum(), list(inputs.values())), strict=True))
        for found in (full, read)
    )
    key_bias = slice(32, 64)
    assert not got["attn.c_attn.bias"][key_bias].any(), "a key bias has no gradient at all"
    wanted["attn.c_attn.bias"][key_bias] = 0.0  # the plain way leaves rounding noise there
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-10)


def test_initial_weights_have_gpt2s_deviations_and_depend_on_the_seed_alone() -> None:
    config = GPT2Config(vocab_size=500, n_positions=64, n_embd=64, n_layer=8, n_head=4)
    gpt, again, other = (GPT2(config).init_weights(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(gpt[name], again[name]) for name in gpt)
    assert not torch.equal(gpt["wte.weight"], other["wte.weight"])
    assert float(gpt["wte.weight"].std()) == pytest.approx(0.02, rel=0.03)
    assert float(gpt["h.3.mlp.c_proj.weight"].std()) == pytest.approx(0.02 / math.sqrt(16), rel=0.03)
    assert not gpt["h.3.attn.c_attn.bias"].any()
    assert bool((gpt["ln_f.weight"] == 1).all())
