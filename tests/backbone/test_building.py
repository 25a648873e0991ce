"""A decoder made of tensors: a wrong tensor is named before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from miniature import published_tensors, random_gpt, write_backbone
from torch import Tensor

from lasttoken.backbone.building import build_decoder
from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.core.errors import BackboneError

Tensors = dict[str, Tensor]


def load(folder: Path) -> Decoder:
    return load_backbone(str(folder)).decoder


def test_loaded_weights_are_frozen_and_not_copied() -> None:
    given = random_gpt().state_dict()
    gpt = build_decoder(random_gpt().config, given, Path("x"))
    assert not gpt.training
    assert not any(parameter.requires_grad for parameter in gpt.parameters())
    assert gpt.token_embedding.data_ptr() == given["wte.weight"].data_ptr()


def test_a_tied_output_layer_in_the_file_is_ignored_and_an_untied_one_must_be_there(tmp_path: Path) -> None:
    gpt = random_gpt()
    tensors = {**published_tensors(gpt), "lm_head.weight": torch.zeros(3)}
    assert load(write_backbone(tmp_path / "tied", gpt, tensors=tensors)).lm_head is None
    untied = write_backbone(tmp_path / "untied", gpt, config={"tie_word_embeddings": False})
    with pytest.raises(BackboneError, match=r"lacks the tensors 'lm_head\.weight'"):
        load(untied)


def change(name: str, tensor: Tensor | None) -> Callable[[Tensors], None]:
    def changed(tensors: Tensors) -> None:
        if tensor is None:
            del tensors[name]
        else:
            tensors[name] = tensor

    return changed


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (change("transformer.ln_f.bias", None), r"lacks the tensors 'ln_f\.bias'"),
        (change("transformer.h.2.mlp.c_fc.weight", None), r"lacks the tensors 'h\.2\.mlp\.c_fc\.weight'"),
        (change("transformer.h.1.ln_3.weight", torch.ones(32)), r"GPT-2 does not have: 'h\.1\.ln_3\.weight'"),
        (change("transformer.h.3.ln_1.weight", torch.ones(32)), r"GPT-2 does not have: 'h\.3\.ln_1\.weight'"),
        (change("score.weight", torch.ones(2, 32)), r"GPT-2 does not have: 'score\.weight'"),
        (change("transformer.wte.weight", torch.ones(50, 32)), r"wte\.weight has shape \(50, 32\).*\(261, 32\)"),
        (
            change("transformer.h.0.attn.c_attn.weight", torch.ones(96, 32)),  # [out, in] in place of [in, out]
            r"h\.0\.attn\.c_attn\.weight has shape \(32, 96\).*\(96, 32\)",
        ),
        (
            change("transformer.h.0.mlp.c_fc.weight", torch.ones(1, 32, 128)),
            r"h\.0\.mlp\.c_fc\.weight has shape \(1, 32, 128\)",
        ),
        (change("transformer.h.0.attn.c_proj.weight", torch.tensor(1.0)), r"c_proj\.weight has shape \(\)"),
        (
            change("transformer.wpe.weight", torch.ones(32, 32, dtype=torch.int8)),
            r"wpe\.weight has the type torch\.int8",
        ),
    ],
    ids=[
        "missing",
        "missing-linear",
        "unknown",
        "block-too-many",
        "score",
        "shape",
        "transposed",
        "3d",
        "0d",
        "integers",
    ],
)
def test_a_tensor_that_does_not_belong_is_named(
    damage: Callable[[Tensors], None], sentence: str, tmp_path: Path
) -> None:
    tensors = published_tensors(random_gpt())
    damage(tensors)
    with pytest.raises(BackboneError, match=sentence):
        load(write_backbone(tmp_path, tensors=tensors))


def test_missing_tensors_beyond_a_dozen_are_counted(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"'h\.3\.attn\.c_attn\.bias'.*and 12 more.*config\.json"):
        load(write_backbone(tmp_path, config={"n_layer": 5}))


def test_more_blocks_than_the_file_has_tensors_are_rejected_before_they_are_built(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"holds 40 tensors, too few for the 2,000 blocks"):
        load(write_backbone(tmp_path, config={"n_layer": 2_000}))


@pytest.mark.parametrize("n_embd", [2**31 - 4, 2**20])
def test_impossible_sizes_are_one_sentence(n_embd: int) -> None:
    gpt = random_gpt()
    with pytest.raises(BackboneError, match=r"weights: .*(no network can have|has shape)"):
        build_decoder(replace(gpt.config, n_embd=n_embd), gpt.state_dict(), Path("weights"))
