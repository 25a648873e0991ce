"""GPT-2 in files: its config.json, its published tensor names, and its entry among the families.

    files     transformer.h.0.attn.c_attn.weight  [in, out]     (the prefix may be absent)
    modules   h.0.attn.c_attn.weight              [out, in]     four transposed views a block; nothing is copied

A file stays where it is, mapped into memory, and is the network: loading a trunk reads nothing, and no second
copy of a large one is ever held. Matrix multiplications with transposed weights are as fast, and with few rows faster
(benchmarks/2026-11-25-speed.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lasttoken.backbone.family import Family
from lasttoken.backbone.gpt2.book_weights import draw_book_weights
from lasttoken.backbone.gpt2.network import GPT2, GPT2Config
from lasttoken.backbone.gpt2.onnx import GPT2Onnx
from lasttoken.core.errors import BackboneError, short_repr

PREFIX = "transformer."
TRANSPOSED = re.compile(r"(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight$")
MASKS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)$")  # causal masks that the published files hold
MAX_SIZE = 2**31 - 1
SUPPORTED = {  # switches of config.json, each with the one value that is computed here
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}


def read_config(content: Mapping[str, Any], path: Path) -> GPT2Config:
    """The config in the content of a `config.json`.

    Raises:
        BackboneError: a variant of GPT-2 that is computed otherwise, or see `read_sizes`.
    """
    for name, value in SUPPORTED.items():
        if content.get(name, value) != value:
            raise BackboneError(
                f"{path} has {name} = {short_repr(content[name])}; only {value!r}, as in GPT-2, can be computed"
            )
    return read_sizes(content, path)


def read_sizes(content: Mapping[str, Any], path: Path) -> GPT2Config:
    """The sizes in a `config.json`, or in OpenAI's `hparams.json`, which has other names for two of them.

    Raises:
        BackboneError: a size is missing or not a positive integer, or the heads do not divide n_embd.
    """
    config = GPT2Config(
        vocab_size=_size(content, path, "vocab_size", "n_vocab"),
        n_positions=_size(content, path, "n_positions", "n_ctx"),
        n_embd=_size(content, path, "n_embd"),
        n_layer=_size(content, path, "n_layer"),
        n_head=_size(content, path, "n_head"),
        n_inner=None if content.get("n_inner") is None else _size(content, path, "n_inner"),
        layer_norm_epsilon=content.get("layer_norm_epsilon", 1e-5),
        tied=content.get("tie_word_embeddings", True),
    )
    if not isinstance(config.tied, bool):
        raise BackboneError(f"{path} has tie_word_embeddings = {short_repr(config.tied)}; it must be true or false")
    epsilon = config.layer_norm_epsilon
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 <= epsilon < 1:
        raise BackboneError(
            f"{path} has layer_norm_epsilon = {short_repr(epsilon)}; it must be a number from 0 to 1, so fetch it again"
        )
    if config.n_embd % config.n_head:
        raise BackboneError(f"{path} has n_embd {config.n_embd}, which is not a multiple of n_head {config.n_head}")
    return config


def _size(content: Mapping[str, Any], path: Path, *names: str) -> int:
    value = next((content[name] for name in names if content.get(name) is not None), None)
    if type(value) is not int or not 1 <= value <= MAX_SIZE:
        raise BackboneError(
            f"{path} has {' or '.join(names)} = {short_repr(value)}, which is not a positive integer; is it a GPT-2's?"
        )
    return value


def write_config(config: GPT2Config) -> dict[str, Any]:
    """What a `config.json` says of the network."""
    return {
        "model_type": GPT2Config.model_type,
        "activation_function": "gelu_new",
        "vocab_size": config.vocab_size,
        "n_positions": config.n_positions,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": config.n_inner,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "tie_word_embeddings": config.tied,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }


def from_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names and layout to ours: views of the same memory."""
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        ours = name.removeprefix(PREFIX)
        if MASKS.search(ours):
            continue
        state[ours] = tensor.t() if TRANSPOSED.search(ours) and tensor.dim() == 2 else tensor
    return state


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names and layout to the published ones, with the prefix."""
    return {
        name if name.startswith("lm_head") else PREFIX + name: (
            tensor.t() if TRANSPOSED.search(name) else tensor
        ).contiguous()
        for name, tensor in state.items()
    }


GPT2_FAMILY = Family(
    model_type=GPT2Config.model_type,
    title="GPT-2",
    build=GPT2,
    read_config=read_config,
    write_config=write_config,
    from_published=from_published,
    to_published=to_published,
    not_weights=MASKS,
    end_of_text="<|endoftext|>",
    classifier_architecture="GPT2ForSequenceClassification",
    final_bias="ln_f.bias",
    onnx=GPT2Onnx,
    book_weights=draw_book_weights,
    matrices={"qkv": "attn.c_attn", "o": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"},
    block_number=re.compile(r"(?:^|\.)h\.(\d+)\."),
)
