"""GGUF files of miniatures, written by the `gguf` package as llama.cpp's converter writes them.

write_gguf(path, decoder)                  F32, tied or not, with the small tokenizer
write_gguf(path, decoder, "Q4_0")          matrices of the blocks in Q4_0, the embedding in Q8_0
write_gguf(path, decoder, keys={…})        keys added or replaced; None leaves one out
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.constants import GGMLQuantizationType, GGUFValueType
from gguf.quants import quantize
from miniature import MERGES, small_vocabulary
from numpy.typing import NDArray

from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.families import family_of

ARCHITECTURES = {"gpt2": "gpt2", "llama": "llama", "mistral": "llama", "gemma3_text": "gemma3"}
PERMUTED = ("llama", "granite", "smollm3")
Keys = Mapping[str, Any]


def write_gguf(
    path: Path,
    decoder: Decoder,
    quantization: str = "F32",
    *,
    keys: Keys | None = None,
    left_out: tuple[str, ...] = (),
    added: Mapping[str, NDArray[np.float32]] | None = None,
) -> Path:
    """Write a decoder and return the path. `left_out` and `added` are names of tensors in the file."""
    content = family_of(decoder.config).write_config(decoder.config)
    architecture = ARCHITECTURES.get(content["model_type"], content["model_type"])
    writer = gguf.GGUFWriter(path, architecture)
    values = {**shape_keys(architecture, content), **tokenizer_keys(), **(keys or {})}
    for key, value in values.items():
        if key == "general.architecture":
            writer.kv_data[0].pop(key)
        if value is not None:
            add_key(writer, key, value)
    tensors = {**stored_tensors(decoder, architecture, content), **(added or {})}
    for name, array in tensors.items():
        if name not in left_out:
            add_tensor(writer, name, array, quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_key(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """Add a key with the type that llama.cpp gives such a value."""
    if isinstance(value, list):
        kind = GGUFValueType.STRING if isinstance(value[0], str) else GGUFValueType.INT32
        writer.add_key_value(key, value, GGUFValueType.ARRAY, kind)
        return
    kinds = {bool: GGUFValueType.BOOL, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32}
    writer.add_key_value(key, value, kinds.get(type(value), GGUFValueType.STRING))


def add_tensor(writer: gguf.GGUFWriter, name: str, array: NDArray[np.float32], quantization: str) -> None:
    """Add a tensor; only matrices of more than one block a row are quantized, and the embedding to 8 bits."""
    kind = "Q8_0" if name == "token_embd.weight" and quantization.startswith("Q") else quantization
    if array.ndim < 2 or name == "position_embd.weight":
        kind = "F32"
    type_ = GGMLQuantizationType[kind]
    writer.add_tensor(name, quantize(array, type_), raw_dtype=type_)


def shape_keys(architecture: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a config.json."""
    if architecture == "gpt2":
        names = {
            "embedding_length": "n_embd",
            "block_count": "n_layer",
            "attention.head_count": "n_head",
            "context_length": "n_positions",
            "feed_forward_length": "n_inner",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        }
    else:
        names = {
            "embedding_length": "hidden_size",
            "block_count": "num_hidden_layers",
            "attention.head_count": "num_attention_heads",
            "attention.head_count_kv": "num_key_value_heads",
            "attention.key_length": "head_dim",
            "attention.value_length": "head_dim",
            "context_length": "max_position_embeddings",
            "feed_forward_length": "intermediate_size",
            "attention.layer_norm_rms_epsilon": "rms_norm_eps",
            "attention.sliding_window": "sliding_window",
            "attention.scale": "attention_multiplier",
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "logit_scale": "logits_scaling",
        }
    found = {f"{architecture}.{key}": content.get(name) for key, name in names.items()} | rope_keys(
        architecture, content
    )
    return {key: value for key, value in found.items() if value is not None}


def rope_keys(architecture: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the rotary embedding; of Gemma's two that of the blocks without a window."""
    rope = content.get("rope_parameters", {})
    rope = rope.get("full_attention", rope)
    keys = {f"{architecture}.rope.freq_base": rope.get("rope_theta")}
    if rope.get("rope_type") == "linear":
        keys |= {f"{architecture}.rope.scaling.type": "linear", f"{architecture}.rope.scaling.factor": rope["factor"]}
    return keys


def tokenizer_keys() -> dict[str, Any]:
    """The small tokenizer."""
    tokens = list(small_vocabulary())
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * (len(tokens) - 1) + [3],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in MERGES],
        "tokenizer.ggml.eos_token_id": len(tokens) - 1,
        "tokenizer.ggml.bos_token_id": len(tokens) - 1,
    }


def stored_tensors(decoder: Decoder, architecture: str, content: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """The published tensors as the converter changes them: transposed (GPT-2), permuted (Llama) and + 1 (Gemma)."""
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[architecture], decoder.config.n_layer)
    stored = {}
    for published, tensor in family_of(decoder.config).to_published(decoder.state_dict()).items():
        name = names.get_name(published, try_suffixes=(".weight", ".bias"))
        assert name is not None
        array = tensor.float().numpy()
        if architecture == "gpt2" and name.startswith("blk.") and array.ndim == 2:
            array = array.T
        if architecture in PERMUTED and (".attn_q." in name or ".attn_k." in name):
            heads = content["num_attention_heads" if ".attn_q." in name else "num_key_value_heads"]
            array = (
                array.reshape(heads, 2, len(array) // heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
            )
        if architecture == "gemma3" and name.endswith("_norm.weight"):
            array = array + 1
        stored[name] = np.ascontiguousarray(array)
    return stored
