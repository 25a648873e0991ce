"""From the keys of a GGUF to the content of a config.json, for each architecture that is read.

    general.architecture = llama, llama.block_count = 30, …  ──►  {"model_type": "llama", "num_hidden_layers": 30, …}

The families (families.py) read that content as they read the file of a hub. An `Architecture` also says what
llama.cpp's converter did to the tensors (github.com/ggml-org/llama.cpp, convert_hf_to_gguf.py), so that tensors.py
can undo it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.backbone.gguf.file import GGUFFile
from lasttoken.core.errors import BackboneError, one_of, short_repr

Content = dict[str, Any]
ROPE_FACTORS = "rope_freqs.weight"  # what Llama 3's scaling divides each frequency by
LLAMA3_SCALING = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3_POSITIONS = 8192  # original_max_position_embeddings of every Llama 3
GEMMA3_LOCAL_THETA = 10000.0
GEMMA3_PATTERN = 6  # every sixth block attends to all tokens
GEMMA3_BLOCKS_OF_27B = 62  # the one size whose attention is scaled by the width / heads and not by the head's width


@dataclass(frozen=True)
class Architecture:
    """What `general.architecture` stands for."""

    content: Callable[[GGUFFile], Content]
    permuted: bool = False  # the rows of q and k are in the order of the original Llama's rotation
    norm_plus_one: bool = False  # norms are stored + 1
    transposed: bool = False  # linear weights are [out, in], and those of a hub's files [in, out]


def architecture_of(file: GGUFFile) -> tuple[Architecture, Content]:
    """The architecture of a file, and the content of its config.json.

    Raises:
        BackboneError: it is an adapter, a vision projector, a part of a model, a mixture of experts or of an
            architecture that is not read; or a key is missing or has an invalid value.
    """
    name = file.get("general.architecture", str)
    kind = file.get("general.type", str, "model")
    if kind == "adapter":
        raise BackboneError(f"{file.path} is an adapter (LoRA), without the model that it changes; give a whole model")
    if kind in ("mmproj", "imatrix") or name == "clip":
        raise BackboneError(
            f"{file.path} holds no language model (general.type {kind!r}, general.architecture {name!r}); "
            "give the file "
            "of the model that it belongs to"
        )
    n_parts = file.get("split.count", int, 0)
    if n_parts > 1:
        raise BackboneError(
            f"{file.path} is one of {n_parts} parts of a model; join them with `llama-gguf-split --merge "
            "FIRST OUTPUT`, "
            "and give the output"
        )
    architecture = ARCHITECTURES.get(name)
    if architecture is None:
        raise BackboneError(
            f"{file.path} has the architecture {short_repr(name)}, which cannot be loaded; give a GGUF of one of "
            f"{one_of(ARCHITECTURES)}"
        )
    if (n_experts := file.get(f"{name}.expert_count", int, 0)) > 0:
        raise BackboneError(
            f"{file.path} is a mixture of {n_experts} experts, which cannot be loaded; give a dense model of one of "
            f"{one_of(ARCHITECTURES)}"
        )
    return architecture, architecture.content(file)


def _gpt2(file: GGUFFile) -> Content:
    width = file.get("gpt2.embedding_length", int)
    return {
        "model_type": "gpt2",
        "n_embd": width,
        "n_layer": file.get("gpt2.block_count", int),
        "n_head": file.get("gpt2.attention.head_count", int),
        "n_inner": file.get("gpt2.feed_forward_length", int, 4 * width),
        "n_positions": file.get("gpt2.context_length", int),
        "layer_norm_epsilon": file.get("gpt2.attention.layer_norm_epsilon", float),
        **_vocabulary(file),
    }


def _rotary(file: GGUFFile, model_type: str) -> Content:
    """What the architectures with rotary positions have in common."""
    name = file.get("general.architecture", str)

    def size(key: str, default: int | None = None) -> Any:
        return file.get(f"{name}.{key}", int, default)

    width, n_head = size("embedding_length"), size("attention.head_count")
    head_dim = size("attention.key_length", width // max(n_head, 1))
    if size("attention.value_length", head_dim) != head_dim or size("rope.dimension_count", head_dim) != head_dim:
        raise BackboneError(
            f"{file.path} has heads whose keys, values and rotation have different widths, which cannot be computed; "
            "give another model"
        )
    return {
        "model_type": model_type,
        "hidden_size": width,
        "num_hidden_layers": size("block_count"),
        "num_attention_heads": n_head,
        "num_key_value_heads": size("attention.head_count_kv", n_head),
        "head_dim": head_dim,
        "intermediate_size": size("feed_forward_length"),
        "max_position_embeddings": size("context_length"),
        "rms_norm_eps": file.get(f"{name}.attention.layer_norm_rms_epsilon", float),
        "hidden_act": "silu",
        "rope_theta": file.get(f"{name}.rope.freq_base", float, 10000.0),
        "rope_scaling": _rope_scaling(file, name, head_dim),
        **_vocabulary(file),
    }


def _vocabulary(file: GGUFFile) -> Content:
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise BackboneError(f"{file.path} lacks the tensor token_embd.weight, a matrix; fetch it again")
    ids = {key: file.keys.get(f"tokenizer.ggml.{key}") for key in ("bos_token_id", "eos_token_id")}
    return {
        "vocab_size": embedding.shape[0],
        "tie_word_embeddings": "output.weight" not in file.tensors,
        **{key: token_id for key, token_id in ids.items() if type(token_id) is int},
    }


def _rope_scaling(file: GGUFFile, name: str, head_dim: int) -> Content | None:
    """`rope_scaling` of a config.json; Llama 3's is not among the keys but in a tensor of factors."""
    kind = file.get(f"{name}.rope.scaling.type", str, "none")
    if ROPE_FACTORS in file.tensors:
        factors = file.blocks(ROPE_FACTORS).dequantize().numpy()
        theta = file.get(f"{name}.rope.freq_base", float, 10000.0)
        scaling = {**LLAMA3_SCALING, "factor": round(float(factors.max()), 4)}
        scaling["original_max_position_embeddings"] = LLAMA3_POSITIONS
        if not np.allclose(factors, _llama3_factors(scaling, theta, head_dim), rtol=1e-3):
            raise BackboneError(
                f"{file.path}: tensor {ROPE_FACTORS} does not hold the factors of Llama 3's rotary scaling, and no "
                "other can be computed; give the model as a folder of safetensors"
            )
        return scaling
    if kind == "none":
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": file.get(f"{name}.rope.scaling.factor", float)}
    raise BackboneError(
        f"{file.path} has {name}.rope.scaling.type = {short_repr(kind)}; only none and linear can be computed"
    )


def _llama3_factors(scaling: Content, theta: float, head_dim: int) -> NDArray[np.float64]:
    """What each frequency is divided by: 1 for short waves, `factor` for long ones, between them a mix."""
    wavelengths = 2 * math.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    smooth = np.clip((LLAMA3_POSITIONS / wavelengths - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / scaling["factor"] + smooth)  # type: ignore[no-any-return]


def _llama(file: GGUFFile) -> Content:
    window = file.get("llama.attention.sliding_window", int, 0)
    content = _rotary(file, "mistral" if window else "llama")
    if window:
        return {**content, "sliding_window": window}
    has_bias = {f"{part}_bias": f"blk.0.{name}.bias" in file.tensors for part, name in BIASED.items()}
    return {**content, **has_bias}


BIASED = {"attention": "attn_q", "mlp": "ffn_gate"}


def _qwen2(file: GGUFFile) -> Content:
    return {**_rotary(file, "qwen2"), "use_sliding_window": False}


def _qwen3(file: GGUFFile) -> Content:
    return {**_rotary(file, "qwen3"), "attention_bias": False, "use_sliding_window": False}


def _gemma3(file: GGUFFile) -> Content:
    content = _rotary(file, "gemma3_text")
    is_27b = content["num_hidden_layers"] == GEMMA3_BLOCKS_OF_27B
    per_head = content["hidden_size"] // max(content["num_attention_heads"], 1)
    return {
        **content,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": per_head if is_27b else content["head_dim"],
        "sliding_window": file.get("gemma3.attention.sliding_window", int),
        "sliding_window_pattern": file.get("gemma3.attention.sliding_window_pattern", int, GEMMA3_PATTERN),
        "attn_logit_softcapping": file.keys.get("gemma3.attn_logit_softcapping"),
        "final_logit_softcapping": file.keys.get("gemma3.final_logit_softcapping"),
        "rope_local_base_freq": file.get("gemma3.rope.freq_base_swa", float, GEMMA3_LOCAL_THETA),
    }


def _olmo2(file: GGUFFile) -> Content:
    if "olmo2.attention.sliding_window" in file.keys:
        raise BackboneError(f"{file.path} is an OLMo 3, which cannot be loaded; give an OLMo 2")
    return _rotary(file, "olmo2")


def _granite(file: GGUFFile) -> Content:
    return {
        **_rotary(file, "granite"),
        "attention_multiplier": file.get("granite.attention.scale", float),
        "embedding_multiplier": file.get("granite.embedding_scale", float, 1.0),
        "residual_multiplier": file.get("granite.residual_scale", float, 1.0),
        "logits_scaling": file.get("granite.logit_scale", float, 1.0),
    }


def _smollm3(file: GGUFFile) -> Content:
    return {**_rotary(file, "smollm3"), "no_rope_layer_interval": 4, "use_sliding_window": False}


ARCHITECTURES = {
    "llama": Architecture(_llama, permuted=True),
    "qwen2": Architecture(_qwen2),
    "qwen3": Architecture(_qwen3),
    "gemma3": Architecture(_gemma3, norm_plus_one=True),
    "gpt2": Architecture(_gpt2, transposed=True),
    "olmo2": Architecture(_olmo2),
    "granite": Architecture(_granite, permuted=True),
    "smollm3": Architecture(_smollm3, permuted=True),
}
