"""Our GPT-2 against transformers' GPT2LMHeadModel."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config as TheirConfig
from transformers import GPT2LMHeadModel

from lasttoken.backbone.building import build_decoder
from lasttoken.backbone.catalog import BACKBONES
from lasttoken.backbone.families import read_config
from lasttoken.backbone.gpt2.family import from_published
from lasttoken.backbone.gpt2.network import GPT2
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.weights import read_tensor_files

RAGGED = [7, 1, 24, 5, 24, 2]
UNIFORM = [9, 9, 9]
# The published shapes with their own number of heads, a sixth of their layers, and heads an eighth as wide.
MINIATURES = {
    name: {"n_head": entry.shape.n_head, "n_layer": entry.shape.n_layer // 6, "n_embd": entry.shape.n_head * 8}
    for name, entry in BACKBONES.items()
    if entry.shape and entry.hub_id
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
    shape = BACKBONES["gpt2"].shape
    assert shape is not None
    oracle = random_transformers(**asdict(shape))
    gpt = loaded(oracle, tmp_path)
    assert sum(parameter.numel() for parameter in gpt.parameters()) == 124_439_808
    assert largest_difference(gpt, oracle, random_texts([40, 1, 111], 50257)) <= 1e-4
