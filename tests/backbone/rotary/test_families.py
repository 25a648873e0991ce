"""Each family's config.json: whatever transformers computes from one is computed here, or it is rejected by name.

The folders are written by transformers; the content of config.json is written out here, in old and new forms.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from miniature import small_tokenizer
from safetensors.torch import load_file, save_file
from twins import continue_greedily, random_twin, save_twin

from lasttoken.backbone.families import FAMILIES, read_config
from lasttoken.backbone.generation import generate
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.pretrained import Backbone, load_backbone
from lasttoken.core.errors import BackboneError

SIZES: dict[str, Any] = {
    "vocab_size": 261,
    "max_position_embeddings": 24,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "eos_token_id": 260,
    "bos_token_id": 259,
}
FULL, SLIDING = "full_attention", "sliding_attention"
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 8, "beta_slow": 2}
ALL_BIASES = {"attention_bias": True}

# family, what differs from SIZES, and how the folder is written: sharded, without the prefix "model."
VARIANTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama-plain": ("llama", {"tie_word_embeddings": True}, ""),
    "llama-old-rope": ("llama", {"rope_theta": 500.0, "rope_scaling": LLAMA3, "head_dim": 12}, "sharded"),
    "llama-older-rope": ("llama", {"rope_scaling": {"type": "linear", "factor": 4.0}}, "bare"),
    "llama-new-rope": ("llama", {"rope_parameters": {**LLAMA3, "rope_theta": 500.0}, "mlp_bias": True}, ""),
    "llama-biases": ("llama", {**ALL_BIASES, "num_key_value_heads": None, "rms_norm_eps": 1e-3}, ""),
    "llama-gelu": ("llama", {"hidden_act": "gelu", "head_dim": None}, ""),
    "mistral-window": ("mistral", {"sliding_window": 5, "head_dim": 12}, "sharded"),
    "mistral-no-window": ("mistral", {"sliding_window": None, "rope_theta": 1e6}, "bare"),
    "qwen2-plain": ("qwen2", {"tie_word_embeddings": True, "rope_theta": 1e6}, "sharded"),
    "qwen2-window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2, "rope_scaling": YARN},
        "",
    ),
    "qwen3-plain": ("qwen3", {"head_dim": 16, "rope_theta": 1e6, "tie_word_embeddings": True}, "bare"),
    "qwen3-window": (
        "qwen3",
        {
            "head_dim": 12,
            "use_sliding_window": True,
            "sliding_window": 4,
            "layer_types": [FULL, SLIDING, FULL, SLIDING],
            **ALL_BIASES,
        },
        "sharded",
    ),
    "olmo2": ("olmo2", {"rope_theta": 5e5, "rms_norm_eps": 1e-6}, "sharded"),
    "olmo2-biases": ("olmo2", {**ALL_BIASES, "tie_word_embeddings": True, "num_key_value_heads": None}, "bare"),
    "gemma3-old": (
        "gemma3_text",
        {
            "head_dim": 12,
            "sliding_window": 5,
            "sliding_window_pattern": 2,
            "rope_theta": 1e5,
            "rope_local_base_freq": 100.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "query_pre_attn_scalar": 20,
        },
        "sharded",
    ),
    "gemma3-new": (
        "gemma3_text",
        {
            "head_dim": 10,
            "sliding_window": 6,
            "layer_types": [SLIDING, FULL, SLIDING, SLIDING],
            "rope_parameters": {
                FULL: {"rope_type": "default", "rope_theta": 1e5},
                SLIDING: {"rope_type": "default", "rope_theta": 50.0},
            },
            "final_logit_softcapping": 2.0,
            "tie_word_embeddings": False,
            **ALL_BIASES,
        },
        "",
    ),
    "gemma3-defaults": ("gemma3_text", {}, "bare"),
    "smollm3": ("smollm3", {}, "sharded"),
    "smollm3-window": (
        "smollm3",
        {
            "no_rope_layers": [1, 0, 0, 1],
            "use_sliding_window": True,
            "sliding_window": 5,
            "tie_word_embeddings": False,
            "mlp_bias": True,
            **ALL_BIASES,
        },
        "bare",
    ),
    "granite": (
        "granite",
        {
            "attention_multiplier": 0.2,
            "embedding_multiplier": 6.0,
            "residual_multiplier": 0.4,
            "logits_scaling": 3.0,
            "tie_word_embeddings": True,
        },
        "sharded",
    ),
    "granite-defaults": ("granite", ALL_BIASES, "bare"),
    "modernbert-defaults": ("modernbert-decoder", {}, "sharded"),
    "modernbert-old": (
        "modernbert-decoder",
        {
            "local_attention": 10,
            "global_attn_every_n_layers": 2,
            "global_rope_theta": 1e3,
            "local_rope_theta": 50.0,
            "decoder_bias": False,
            "tie_word_embeddings": False,
        },
        "bare",
    ),
    "modernbert-new": (
        "modernbert-decoder",
        {
            "local_attention": 8,
            "layer_types": [SLIDING, FULL, SLIDING, FULL],
            "rope_parameters": {FULL: {"rope_theta": 1e3, "rope_type": "default"}, SLIDING: {"rope_theta": 70.0}},
            "mlp_bias": True,
            **ALL_BIASES,
        },
        "",
    ),
}


def content_of(variant: str) -> dict[str, Any]:
    model_type, changes, _ = VARIANTS[variant]
    return {"model_type": model_type, **SIZES, **changes}


def write_variant(folder: Path, variant: str) -> Any:
    """Write the folder of a variant, and return the network of transformers that wrote it."""
    content, how = content_of(variant), VARIANTS[variant][2]
    twin = random_twin(json.loads(json.dumps(content)))  # it changes what it is given
    save_twin(twin, folder, sharded=how == "sharded")
    if how == "bare":
        tensors = load_file(folder / "model.safetensors")
        save_file(
            {name.removeprefix("model."): tensor for name, tensor in tensors.items()}, folder / "model.safetensors"
        )
    (folder / "config.json").write_text(json.dumps(content), "utf-8")
    (folder / "tokenizer.json").write_text(small_tokenizer().to_json(), "utf-8")
    return twin


def test_every_family_but_gpt2_has_variants() -> None:
    assert {model_type for model_type, _, _ in VARIANTS.values()} == set(FAMILIES) - {"gpt2"}


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_folder_of_transformers_gives_its_logits_and_its_text(variant: str, tmp_path: Path) -> None:
    twin = write_variant(tmp_path, variant)
    backbone: Backbone = load_backbone(str(tmp_path))
    assert backbone.end_of_text_id == 260
    token_ids = torch.randint(256, (24,), generator=torch.Generator().manual_seed(3))
    ours = backbone.decoder.logits(backbone.decoder(token_ids, Packing([24])))
    torch.testing.assert_close(ours, twin(token_ids[None]).logits[0], atol=1e-4, rtol=0)
    prompt = token_ids[:8].tolist()
    assert generate(backbone.decoder, prompt, max_new_tokens=14).token_ids == continue_greedily(twin, prompt, 14)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_written_is_read_as_the_same_config(variant: str, tmp_path: Path) -> None:
    content = content_of(variant)
    family = FAMILIES[content["model_type"]]
    config = family.read_config(content, tmp_path)
    for depth in (4, 3, 1):
        cut = config.cut_to(depth)
        assert family.read_config(family.write_config(cut), tmp_path) == cut
    bare = config.without_lm_head()
    assert family.read_config(family.write_config(bare), tmp_path) == bare


@pytest.mark.parametrize("model_type", sorted(set(FAMILIES) - {"gpt2"}))
@pytest.mark.parametrize(
    "name",
    [
        "vocab_size",
        "max_position_embeddings",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
    ],
)
def test_a_missing_size_is_named(model_type: str, name: str, tmp_path: Path) -> None:
    content = {"model_type": model_type, **SIZES}
    del content[name]
    (tmp_path / "config.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(BackboneError, match=rf"config\.json lacks {name}"):
        read_config(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("model_type", "changes", "named"),
    [
        ("llama", {"hidden_size": -1}, "hidden_size"),
        ("llama", {"vocab_size": True}, "vocab_size"),
        ("llama", {"hidden_size": 2**40}, "hidden_size"),
        ("llama", {"hidden_act": "relu"}, "hidden_act"),
        ("llama", {"hidden_act": ["silu"]}, "hidden_act"),
        ("llama", {"num_key_value_heads": 3}, "num_key_value_heads"),
        ("llama", {"num_attention_heads": 3, "num_key_value_heads": None}, "num_attention_heads"),
        ("llama", {"head_dim": 7}, "head_dim"),
        ("llama", {"rms_norm_eps": "small"}, "rms_norm_eps"),
        ("llama", {"attention_bias": 1}, "attention_bias"),
        ("llama", {"rope_theta": 0}, "rope_theta"),
        ("llama", {"rope_theta": float("inf")}, "rope_theta"),
        ("llama", {"rope_scaling": "linear"}, "rope_scaling"),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, r"rope_scaling\.type = 'dynamic'"),
        ("llama", {"rope_parameters": {"rope_type": "linear"}}, r"rope_parameters\.factor"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 0}}, r"rope_parameters\.factor"),
        ("llama", {"rope_parameters": {**LLAMA3, "high_freq_factor": 1.0}}, "high_freq_factor"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("qwen2", {"layer_types": [FULL]}, "layer_types"),
        ("qwen2", {"layer_types": [FULL, FULL, FULL, "linear_attention"]}, "layer_types"),
        ("qwen2", {"max_window_layers": "all"}, "max_window_layers"),
        ("mistral", {"sliding_window": 0}, "sliding_window"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma3_text", {"rope_parameters": {FULL: 3}}, r"rope_parameters\.full_attention"),
        ("smollm3", {"no_rope_layers": [1]}, "no_rope_layers"),
        ("granite", {"logits_scaling": 0}, "logits_scaling"),
        ("modernbert-decoder", {"norm_bias": True}, "norm_bias"),
        ("modernbert-decoder", {"classifier_activation": "relu"}, "classifier_activation"),
    ],
)
def test_a_value_that_cannot_be_computed_is_named(
    model_type: str, changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    content = {"model_type": model_type, **SIZES, **changes}
    with pytest.raises(BackboneError, match=rf"{tmp_path}.*{named}"):
        FAMILIES[model_type].read_config(content, tmp_path / "config.json")


@pytest.mark.parametrize("eos", [None, "</s>", [], -1, [None]])
def test_a_config_without_an_end_token_is_named(eos: object, tmp_path: Path) -> None:
    write_variant(tmp_path, "llama-plain")
    (tmp_path / "config.json").write_text(json.dumps({**content_of("llama-plain"), "eos_token_id": eos}), "utf-8")
    with pytest.raises(BackboneError, match="eos_token_id"):
        load_backbone(str(tmp_path))


def test_an_end_token_beyond_the_tokenizer_is_named(tmp_path: Path) -> None:
    write_variant(tmp_path, "llama-plain")
    (tmp_path / "config.json").write_text(json.dumps({**content_of("llama-plain"), "eos_token_id": [999, 1]}), "utf-8")
    with pytest.raises(BackboneError, match="999"):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize(("name", "change"), [("lm_head.weight", "missing"), ("model.norm.weight", "shape")])
def test_tensors_that_do_not_fit_are_named(name: str, change: str, tmp_path: Path) -> None:
    write_variant(tmp_path, "llama-new-rope")
    tensors = load_file(tmp_path / "model.safetensors")
    tensor = tensors.pop(name)
    if change == "shape":
        tensors[name] = tensor[:-1].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(BackboneError, match=name.replace(".", r"\.")):
        load_backbone(str(tmp_path))
