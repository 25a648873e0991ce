"""Our GPT against transformers' GPT2LMHeadModel, and each shortcut of ours against the plain way."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from miniature import random_gpt
from torch import Tensor
from transformers import GPT2Config as TheirConfig
from transformers import GPT2LMHeadModel

from lasttoken.backbone.building import build_decoder
from lasttoken.backbone.catalog import BACKBONES
from lasttoken.backbone.decoder import KeyValues
from lasttoken.backbone.families import read_config
from lasttoken.backbone.gpt2.family import from_published
from lasttoken.backbone.gpt2.network import GPT2, Attention, GPT2Block, GPT2Config
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.weights import read_tensor_files

RAGGED = [7, 1, 24, 5, 24, 2]
UNIFORM = [9, 9, 9]
# The published shapes with their own number of heads, a sixth of their layers, and heads an eighth as wide.
MINIATURES = {
    name: {"n_head": entry.n_head, "n_layer": entry.n_layer // 6, "n_embd": entry.n_head * 8}
    for name, entry in BACKBONES.items()
    if name.startswith("gpt2")
}


def random_transformers(seed: int = 0, **shape: Any) -> GPT2LMHeadModel:
    """A GPT2LMHeadModel whose norms and biases are random too, so that none is left out unseen."""
    torch.manual_seed(seed)
    oracle = GPT2LMHeadModel(TheirConfig(**shape))
    oracle.train(False)
    with torch.no_grad():
        for name, parameter in oracle.named_parameters():
            if parameter.dim() == 1:
                parameter.normal_(1.0 if ".ln_" in name and name.endswith("weight") else 0.0, 0.3)
            elif shape["n_embd"] < 256:
                parameter.normal_(0.0, shape["n_embd"] ** -0.5)  # 0.02 would make a miniature nearly linear
    return oracle


def loaded(oracle: GPT2LMHeadModel, folder: Path) -> GPT2:
    """Our GPT, of the files that transformers writes."""
    oracle.save_pretrained(folder)
    config, _ = read_config(folder / "config.json")
    decoder = build_decoder(config, from_published(read_tensor_files(folder)), folder)
    assert isinstance(decoder, GPT2)
    return decoder


def random_texts(lengths: list[int], vocab_size: int, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(vocab_size, (length,), generator=generator) for length in lengths]


@torch.no_grad()
def largest_difference(gpt: GPT2, oracle: GPT2LMHeadModel, texts: list[Tensor]) -> float:
    """Between our logits of the packed texts and theirs of each text by itself."""
    packing = Packing([len(text) for text in texts])
    ours = gpt.logits(gpt(torch.cat(texts), packing))
    theirs = torch.cat([oracle(text[None]).logits[0] for text in texts])
    return float((ours - theirs).abs().max())


@pytest.mark.parametrize("lengths", [RAGGED, UNIFORM], ids=["ragged", "uniform"])
@pytest.mark.parametrize("name", MINIATURES)
def test_packed_logits_are_those_of_transformers_one_by_one(name: str, lengths: list[int], tmp_path: Path) -> None:
    oracle = random_transformers(vocab_size=97, n_positions=24, **MINIATURES[name])
    texts = random_texts(lengths, 97)
    assert largest_difference(loaded(oracle, tmp_path), oracle, texts) <= 1e-4


@pytest.mark.parametrize(
    "shape",
    [
        {"n_inner": 50},
        {"layer_norm_epsilon": 0.5},
        {"tie_word_embeddings": False},
        {"n_layer": 1, "n_head": 1},
        {"resid_pdrop": 0.9, "attn_pdrop": 0.9, "embd_pdrop": 0.9},
    ],
    ids=lambda shape: "-".join(shape),
)
def test_every_field_of_the_shape_is_obeyed_and_dropout_is_ignored(shape: dict[str, Any], tmp_path: Path) -> None:
    base = {"vocab_size": 97, "n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 4}
    oracle = random_transformers(**{**base, **shape})
    assert largest_difference(loaded(oracle, tmp_path).train(), oracle, random_texts(RAGGED, 97)) <= 1e-4


@pytest.mark.slow
def test_logits_of_the_full_124m_shape_are_those_of_transformers(tmp_path: Path) -> None:
    entry = BACKBONES["gpt2"]
    shape = {name: getattr(entry, name) for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")}
    oracle = random_transformers(**shape)
    gpt = loaded(oracle, tmp_path)
    assert sum(parameter.numel() for parameter in gpt.parameters()) == 124_439_808
    assert largest_difference(gpt, oracle, random_texts([40, 1, 111], 50257)) <= 1e-4


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
def test_with_and_without_causal_mask_is_the_definition_of_attention(causal: bool, lengths: list[int]) -> None:
    gpt = random_gpt(dtype=torch.float64)
    texts = random_texts(lengths, gpt.config.vocab_size)
    ours = gpt(torch.cat(texts), Packing(lengths), causal)
    torch.testing.assert_close(ours, torch.cat([explicit_gpt(gpt, text, causal) for text in texts]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("lengths", [RAGGED, UNIFORM], ids=["ragged", "uniform"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "no-mask"])
def test_reading_one_token_equals_the_whole_block_at_that_token(causal: bool, lengths: list[int]) -> None:
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


@pytest.mark.parametrize("chunks", [[12], [1] * 12, [5, 1, 4, 2]], ids=str)
def test_extending_keys_and_values_equals_the_forward_pass(chunks: list[int]) -> None:
    gpt = random_gpt(dtype=torch.float64)
    (text,) = random_texts([sum(chunks)], gpt.config.vocab_size)
    cache = KeyValues(gpt.config.n_layer)
    hidden = [gpt.extend(text[start:stop], cache) for start, stop in pairwise(accumulate(chunks, initial=0))]
    assert cache.n_tokens == len(text)
    torch.testing.assert_close(torch.cat(hidden), gpt(text, Packing([len(text)])), rtol=0, atol=1e-10)


def test_a_forked_continuation_leaves_the_first_as_it_was() -> None:
    gpt = random_gpt(dtype=torch.float64)
    start, one, two = random_texts([6, 4, 3], gpt.config.vocab_size)
    cache = KeyValues(gpt.config.n_layer)
    gpt.extend(start, cache)
    gpt.extend(one, cache.fork())
    expected = gpt(torch.cat((start, two)), Packing([9]))[6:]
    torch.testing.assert_close(gpt.extend(two, cache.fork()), expected, rtol=0, atol=1e-10)


def test_initial_weights_have_the_spread_of_gpt2s_and_depend_on_the_seed_alone() -> None:
    config = GPT2Config(vocab_size=500, n_positions=64, n_embd=64, n_layer=8, n_head=4)
    gpt, again, other = (GPT2(config).init_weights(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(gpt[name], again[name]) for name in gpt)
    assert not torch.equal(gpt["wte.weight"], other["wte.weight"])
    assert float(gpt["wte.weight"].std()) == pytest.approx(0.02, rel=0.03)
    assert float(gpt["h.3.mlp.c_proj.weight"].std()) == pytest.approx(0.02 / math.sqrt(16), rel=0.03)
    assert not gpt["h.3.attn.c_attn.bias"].any()
    assert bool((gpt["ln_f.weight"] == 1).all())
