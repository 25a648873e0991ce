"""Tensor names of the families with rotary positions: published ones to ours, and back.

    most families        model.layers.0.self_attn.q_proj.weight     ours are the same
    modernbert-decoder   model.layers.0.attn.q_proj.weight          other names, and gate and up in one matrix

The prefix "model." may be absent in files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

PREFIX = "model."
WITHOUT_PREFIX = (PREFIX, "lm_head.", "decoder.", "score.")
NOT_WEIGHTS = re.compile(r"(^|\.)rotary_emb\.inv_freq$")  # frequencies, which older files hold and are computed here

MODERNBERT = (  # parts of names: published, ours; in this order
    ("model.embeddings.tok_embeddings.", "model.embed_tokens."),
    ("model.embeddings.norm.", "model.embed_norm."),
    ("model.final_norm.", "model.norm."),
    (".attn.Wo.", ".self_attn.o_proj."),
    (".attn.", ".self_attn."),
    (".attn_norm.", ".input_layernorm."),
    (".mlp_norm.", ".post_attention_layernorm."),
    (".mlp.Wo.", ".mlp.down_proj."),
    ("decoder.weight", "lm_head.weight"),
    ("decoder.bias", "lm_head.bias"),
)
MATRICES = {
    **{word: f"self_attn.{word}_proj" for word in ("q", "k", "v", "o")},
    **{word: f"mlp.{word}_proj" for word in ("gate", "up", "down")},
}
GATE_AND_UP, GATE, UP = ".mlp.Wi.", ".mlp.gate_proj.", ".mlp.up_proj."


def from_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names to ours."""
    return {
        name if name.startswith(WITHOUT_PREFIX) else PREFIX + name: tensor
        for name, tensor in tensors.items()
        if not NOT_WEIGHTS.search(name)
    }


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names to the published ones."""
    return {name: tensor.contiguous() for name, tensor in state.items()}


def modernbert_from_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names of modernbert-decoder to ours."""
    state: dict[str, Tensor] = {}
    for name, tensor in from_published(tensors).items():
        for published, ours in MODERNBERT:
            name = name.replace(published, ours)
        if GATE_AND_UP in name and len(tensor) % 2 == 0:
            gate, up = tensor.chunk(2)
            state |= {name.replace(GATE_AND_UP, GATE): gate, name.replace(GATE_AND_UP, UP): up}
        else:
            state[name] = tensor
    return state


def modernbert_to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names to those of modernbert-decoder."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if GATE in name:
            tensors[name.replace(GATE, GATE_AND_UP)] = torch.cat((tensor, state[name.replace(GATE, UP)]))
        elif UP not in name:
            for published, ours in MODERNBERT:
                name = name.replace(ours, published)
            tensors[name] = tensor.contiguous()
    return tensors
