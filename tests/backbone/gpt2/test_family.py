"""GPT-2 in files: every published form of its weights, and configurations that cannot be computed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from miniature import published_tensors, random_gpt, write_backbone, write_shards
from torch import Tensor

from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.families import read_config
from lasttoken.backbone.gpt2.family import PREFIX, from_published, to_published, write_config
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.core.errors import BackboneError

Tensors = dict[str, Tensor]


def load(folder: Path) -> Decoder:
    return load_backbone(str(folder)).decoder


def assert_same_weights(actual: Decoder, expected: Decoder) -> None:
    assert actual.config == expected.config
    theirs = expected.state_dict()
    assert actual.state_dict().keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in actual.state_dict().items())


def without_prefix(tensors: Tensors) -> Tensors:
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def with_lm_head(tensors: Tensors) -> Tensors:
    return {**tensors, "lm_head.weight": tensors[f"{PREFIX}wte.weight"].clone()}


def with_buffers(tensors: Tensors) -> Tensors:
    """The causal masks that transformers 4 and earlier wrote along."""
    masks = {}
    for layer in range(3):
        masks[f"{PREFIX}h.{layer}.attn.bias"] = torch.ones(1, 1, 32, 32).tril()
        masks[f"{PREFIX}h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    return {**tensors, **masks}


@pytest.mark.parametrize(
    "forms",
    [
        (),
        (without_prefix,),
        (with_lm_head,),
        (with_buffers,),
        (with_buffers, without_prefix),  # as openai-community/gpt2 is published
        (with_buffers, with_lm_head, without_prefix),
    ],
    ids=lambda forms: "+".join(form.__name__ for form in forms) or "plain",
)
@pytest.mark.parametrize("n_shards", [0, 1, 3], ids=["single", "one-shard", "three-shards"])
def test_every_published_form_gives_the_same_weights(
    forms: tuple[Callable[[Tensors], Tensors], ...], n_shards: int, tmp_path: Path
) -> None:
    gpt = random_gpt()
    tensors = published_tensors(gpt)
    for form in forms:
        tensors = form(tensors)
    write_backbone(tmp_path, gpt, tensors=tensors)
    if n_shards:
        write_shards(tmp_path, tensors, n_shards)
    assert_same_weights(load(tmp_path), gpt)


@pytest.mark.parametrize(
    "shape",
    [
        {"vocab_size": 301, "n_positions": 7, "n_embd": 6, "n_layer": 1, "n_head": 3},
        {"n_embd": 5, "n_head": 5, "n_inner": 13},
        {"n_layer": 12, "n_head": 1},
        {"tied": False},
    ],
    ids=lambda shape: "-".join(shape),
)
def test_any_size_is_accepted(shape: dict[str, Any], tmp_path: Path) -> None:
    gpt = random_gpt(**shape)
    assert_same_weights(load(write_backbone(tmp_path, gpt)), gpt)


def test_double_precision_weights_are_read_as_float32(tmp_path: Path) -> None:
    """Those in 16 bits are in tests/backbone/test_contract.py."""
    gpt = random_gpt()
    found = load(write_backbone(tmp_path, gpt, tensors={n: t.double() for n, t in published_tensors(gpt).items()}))
    assert_same_weights(found, gpt)
    assert {tensor.dtype for tensor in found.state_dict().values()} == {torch.float32}


def test_our_layout_and_the_published_one_are_each_others_inverse() -> None:
    state = random_gpt(tied=False).state_dict()
    there = to_published(state)
    linear = {"attn.c_attn": (32, 96), "attn.c_proj": (32, 32), "mlp.c_fc": (32, 128), "mlp.c_proj": (128, 32)}
    assert {name: there[f"transformer.h.1.{name}.weight"].shape for name in linear} == linear, "[in, out], as published"
    assert {"transformer.wte.weight", "lm_head.weight"} <= there.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in from_published(there).items())


# ---- config.json

GOOD: dict[str, Any] = write_config(random_gpt().config)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (json.dumps({**GOOD, "activation_function": "relu"}), r"has activation_function = 'relu'; only 'gelu_new'"),
        (json.dumps({**GOOD, "scale_attn_weights": False}), r"has scale_attn_weights = False"),
        (json.dumps({**GOOD, "scale_attn_by_inverse_layer_idx": True}), r"has scale_attn_by_inverse_layer_idx = True"),
        (json.dumps({**GOOD, "add_cross_attention": True}), r"has add_cross_attention = True"),
        (json.dumps({**GOOD, "n_head": 5}), r"n_embd 32, which is not a multiple of n_head 5"),
        (
            json.dumps({**GOOD, "layer_norm_epsilon": "small"}),
            r"layer_norm_epsilon = 'small'",
        ),
        (json.dumps({**GOOD, "layer_norm_epsilon": float("nan")}), r"layer_norm_epsilon = nan"),
        (json.dumps({"model_type": "gpt2"}), r"vocab_size or n_vocab = None"),
        *(
            (json.dumps({**GOOD, name: value}), rf"has {name}.* = ")
            for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner")
            for value in (0, -4, 1.5, "many", float("inf"), 10**30, [3])
        ),
    ],
)
def test_a_wrong_value_of_a_configuration_is_named(content: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(BackboneError, match=sentence) as caught:
        read_config(tmp_path / "config.json")
    assert str(tmp_path / "config.json") in str(caught.value)


def test_old_and_sparse_configurations_are_read(tmp_path: Path) -> None:
    old = {"n_ctx": 32, "n_positions": None, "vocab_size": 261, "n_embd": 32, "n_layer": 3, "n_head": 4}
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert read_config(tmp_path / "config.json")[0] == random_gpt().config
