"""Tensor names: with and without their prefix, and ModernBERT's own."""

from __future__ import annotations

import torch

from lasttoken.backbone.rotary.names import (
    NOT_WEIGHTS,
    from_published,
    modernbert_from_published,
    modernbert_to_published,
)

X = torch.arange(8.0).view(4, 2)


def test_a_prefix_is_added_where_it_is_absent() -> None:
    published = {
        "embed_tokens.weight": X,
        "model.norm.weight": X,
        "lm_head.weight": X,
        "layers.3.mlp.up_proj.weight": X,
    }
    assert list(from_published(published)) == [
        "model.embed_tokens.weight",
        "model.norm.weight",
        "lm_head.weight",
        "model.layers.3.mlp.up_proj.weight",
    ]


def test_stored_frequencies_are_left_out() -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    assert from_published({name: X}) == {}
    assert NOT_WEIGHTS.search(name)


def test_modernberts_gate_and_up_are_halves_of_one_matrix() -> None:
    state = modernbert_from_published({"layers.0.mlp.Wi.weight": X, "layers.0.attn.Wo.weight": X, "decoder.bias": X[0]})
    assert torch.equal(state["model.layers.0.mlp.gate_proj.weight"], X[:2])
    assert torch.equal(state["model.layers.0.mlp.up_proj.weight"], X[2:])
    assert state["model.layers.0.mlp.up_proj.weight"].data_ptr() == X[2:].data_ptr(), "nothing is copied"
    assert set(state) > {"model.layers.0.self_attn.o_proj.weight", "lm_head.bias"}
    back = modernbert_to_published(state)
    assert set(back) == {"model.layers.0.mlp.Wi.weight", "model.layers.0.attn.Wo.weight", "decoder.bias"}
    assert torch.equal(back["model.layers.0.mlp.Wi.weight"], X)
