"""The families with rotary positions: what sets each apart from Llama, in its config.json and in the network.

A family is a config class with its switches, two functions that read and write its config.json, and its entry in
`ROTARY_FAMILIES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lasttoken.backbone.family import Family
from lasttoken.backbone.rotary import names
from lasttoken.backbone.rotary.config import Biases, Norm, Placement, QKNorm, RotaryConfig
from lasttoken.backbone.rotary.config_file import ConfigFile
from lasttoken.backbone.rotary.network import RotaryDecoder
from lasttoken.backbone.rotary.onnx import RotaryOnnx
from lasttoken.backbone.rotary.reading import (
    read_activation,
    read_sizes,
    read_windows,
    write_activation,
    write_layer_types,
    write_sizes,
)
from lasttoken.backbone.rotary.rope_file import FULL, SLIDING, read_rope, read_ropes, write_rope

Content = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LlamaConfig(RotaryConfig):
    """Llama 2 and 3, SmolLM2, TinyLlama."""

    model_type: ClassVar[str] = "llama"


def _read_llama(file: ConfigFile) -> LlamaConfig:
    sizes = read_sizes(file, tied=False)
    return LlamaConfig(
        **sizes,
        rope=read_rope(file, sizes["n_positions"]),
        activation=read_activation(file),
        attention_biases=_biases(file),
        mlp_bias=file.flag("mlp_bias", default=False),
    )


def _biases(file: ConfigFile) -> Biases:
    return "all" if file.flag("attention_bias", default=False) else "none"


def _write_llama(config: RotaryConfig) -> Content:
    return {
        **write_sizes(config),
        "attention_bias": config.attention_biases == "all",
        "mlp_bias": config.mlp_bias,
    }


@dataclass(frozen=True, kw_only=True)
class MistralConfig(RotaryConfig):
    """Mistral 7B; every block has the window, if there is one."""

    model_type: ClassVar[str] = "mistral"


def _read_mistral(file: ConfigFile) -> MistralConfig:
    sizes = read_sizes(file, tied=False)
    n_layer = sizes["n_layer"]
    without_window = "sliding_window" in file.content and not file.has("sliding_window")
    window = 0 if without_window else file.size("sliding_window", 4096)
    return MistralConfig(
        **sizes,
        rope=read_rope(file, sizes["n_positions"]),
        activation=read_activation(file),
        window=window,
        windowed_blocks=tuple(range(n_layer)) if window else (),
    )


def _write_mistral(config: RotaryConfig) -> Content:
    return {**write_sizes(config), "sliding_window": config.window or None}


@dataclass(frozen=True, kw_only=True)
class Qwen2Config(RotaryConfig):
    """Qwen 2 and 2.5: biases of queries, keys and values."""

    model_type: ClassVar[str] = "qwen2"
    attention_biases: Biases = "qkv"


def _read_qwen2(file: ConfigFile) -> Qwen2Config:
    sizes = read_sizes(file, tied=False)
    return Qwen2Config(
        **sizes,
        rope=read_rope(file, sizes["n_positions"]),
        activation=read_activation(file),
        **_read_qwen_windows(file, sizes["n_layer"]),
    )


def _read_qwen_windows(file: ConfigFile, n_layer: int) -> Content:
    use = file.flag("use_sliding_window", default=False)
    first = file.content.get("max_window_layers", 28)
    if type(first) is not int:
        raise file.fault("max_window_layers", "it must be an integer")
    window = file.size("sliding_window", 4096) if use else 0
    return read_windows(file, n_layer, window, [layer >= first for layer in range(n_layer)])


def _write_qwen2(config: RotaryConfig) -> Content:
    return {
        **write_sizes(config),
        "use_sliding_window": bool(config.windowed_blocks),
        "sliding_window": config.window or None,
        "layer_types": write_layer_types(config),
    }


@dataclass(frozen=True, kw_only=True)
class Qwen3Config(RotaryConfig):
    """Qwen 3 and Qwen3-Embedding: a norm of each head of queries and keys."""

    model_type: ClassVar[str] = "qwen3"
    qk_norm: QKNorm = "head"


def _read_qwen3(file: ConfigFile) -> Qwen3Config:
    sizes = read_sizes(file, tied=False, head_dim=128)
    return Qwen3Config(
        **sizes,
        rope=read_rope(file, sizes["n_positions"]),
        activation=read_activation(file),
        attention_biases=_biases(file),
        **_read_qwen_windows(file, sizes["n_layer"]),
    )


def _write_qwen3(config: RotaryConfig) -> Content:
    return {**_write_qwen2(config), "attention_bias": config.attention_biases == "all"}


@dataclass(frozen=True, kw_only=True)
class Olmo2Config(RotaryConfig):
    """OLMo 2: norms after attention and MLP only, and norms of all queries and all keys together."""

    model_type: ClassVar[str] = "olmo2"
    norm_at: Placement = "post"
    qk_norm: QKNorm = "full"


def _read_olmo2(file: ConfigFile) -> Olmo2Config:
    sizes = read_sizes(file, tied=False, epsilon=("rms_norm_eps", 1e-5))
    return Olmo2Config(
        **sizes,
        rope=read_rope(file, sizes["n_positions"]),
        activation=read_activation(file),
        attention_biases=_biases(file),
    )


def _write_olmo2(config: RotaryConfig) -> Content:
    return {**write_sizes(config), "attention_bias": config.attention_biases == "all"}


@dataclass(frozen=True, kw_only=True)
class Gemma3TextConfig(RotaryConfig):
    """Gemma 3 without its vision model: four norms in a block, another base of rotation in blocks with a window."""

    model_type: ClassVar[str] = "gemma3_text"
    norm_plus_one: bool = True
    norm_at: Placement = "both"
    qk_norm: QKNorm = "head"


def _read_gemma3(file: ConfigFile) -> Gemma3TextConfig:
    file.must_be("attn_logit_softcapping", None, why="a soft-cap of attention scores cannot be computed")
    if file.flag("use_bidirectional_attention", default=False):
        raise file.fault("use_bidirectional_attention", "only a decoder with a causal mask can be loaded")
    sizes = read_sizes(file, tied=True, head_dim=256)
    n_layer, every = sizes["n_layer"], file.size("sliding_window_pattern", 6)
    windowed = [(layer + 1) % every != 0 for layer in range(n_layer)]
    bases, defaults = ("rope_theta", "rope_local_base_freq"), (1_000_000.0, 10_000.0)
    rope, local_rope = read_ropes(file, sizes["n_positions"], bases, defaults, scale_both=False)
    return Gemma3TextConfig(
        **sizes,
        **read_windows(file, n_layer, file.size("sliding_window", 4096), windowed),
        rope=rope,
        local_rope=local_rope,
        activation=read_activation(file, "hidden_activation", "gelu_pytorch_tanh"),
        attention_biases=_biases(file),
        attention_scale=file.number("query_pre_attn_scalar", 256) ** -0.5,
        embedding_multiplier=math.sqrt(sizes["n_embd"]),
        logits_softcap=file.number("final_logit_softcapping") if file.has("final_logit_softcapping") else None,
    )


def _write_gemma3(config: RotaryConfig) -> Content:
    content = write_sizes(config)
    del content["hidden_act"], content["rope_theta"]
    scale = config.attention_scale or config.head_dim**-0.5
    return {
        **content,
        "hidden_activation": write_activation(config),
        "query_pre_attn_scalar": round(scale**-2),
        "attention_bias": config.attention_biases == "all",
        "final_logit_softcapping": config.logits_softcap,
        "sliding_window": config.window or 4096,
        "layer_types": write_layer_types(config),
        "rope_parameters": _write_ropes(config),
    }


def _write_ropes(config: RotaryConfig) -> Content:
    return {FULL: write_rope(config.rope), SLIDING: write_rope(config.local_rope or config.rope)}


@dataclass(frozen=True, kw_only=True)
class SmolLM3Config(RotaryConfig):
    """SmolLM 3: every fourth block does not know positions."""

    model_type: ClassVar[str] = "smollm3"


def _read_smollm3(file: ConfigFile) -> SmolLM3Config:
    sizes = read_sizes(file, tied=True)
    n_layer, every = sizes["n_layer"], file.size("no_rope_layer_interval", 4)
    uses_rope = [(layer + 1) % every != 0 for layer in range(n_layer)]
    if file.has("no_rope_layers"):  # despite its name, 1 where a block rotates
        uses_rope = [bool(value) for value in file.items("no_rope_layers", n_layer)]
    use = file.flag("use_sliding_window", default=False) and file.has("sliding_window")
    window = file.size("sliding_window") if use else 0
    return SmolLM3Config(
        **sizes,
        **read_windows(file, n_layer, window, [not uses for uses in uses_rope]),
        rope=read_rope(file, sizes["n_positions"], 2_000_000.0),
        blocks_without_rope=tuple(layer for layer in range(n_layer) if not uses_rope[layer]),
        activation=read_activation(file),
        attention_biases=_biases(file),
        mlp_bias=file.flag("mlp_bias", default=False),
    )


def _write_smollm3(config: RotaryConfig) -> Content:
    return {
        **_write_llama(config),
        "no_rope_layers": [int(layer not in config.blocks_without_rope) for layer in range(config.n_layer)],
        "use_sliding_window": bool(config.windowed_blocks),
        "sliding_window": config.window or None,
        "layer_types": write_layer_types(config),
    }


@dataclass(frozen=True, kw_only=True)
class GraniteConfig(RotaryConfig):
    """Granite: multipliers of embeddings, residuals, attention scores and logits."""

    model_type: ClassVar[str] = "granite"


def _read_granite(file: ConfigFile) -> GraniteConfig:
    sizes = read_sizes(file, tied=False)
    return GraniteConfig(
        **sizes,
        rope=read_rope(file, sizes["n_positions"]),
        activation=read_activation(file),
        attention_biases=_biases(file),
        mlp_bias=file.flag("mlp_bias", default=False),
        attention_scale=file.number("attention_multiplier", 1.0),
        embedding_multiplier=file.number("embedding_multiplier", 1.0),
        residual_multiplier=file.number("residual_multiplier", 1.0),
        logits_divisor=file.number("logits_scaling", 1.0),
    )


def _write_granite(config: RotaryConfig) -> Content:
    return {
        **_write_llama(config),
        "attention_multiplier": config.attention_scale or config.head_dim**-0.5,
        "embedding_multiplier": config.embedding_multiplier,
        "residual_multiplier": config.residual_multiplier,
        "logits_scaling": config.logits_divisor,
    }


@dataclass(frozen=True, kw_only=True)
class ModernBertDecoderConfig(RotaryConfig):
    """The decoders with ModernBERT's layers (Ettin): LayerNorm, and a transform before the language-model head."""

    model_type: ClassVar[str] = "modernbert-decoder"
    norm: Norm = "layer"
    embedding_norm: bool = True
    lm_transform: bool = True
    lm_bias: bool = True


def _read_modernbert(file: ConfigFile) -> ModernBertDecoderConfig:
    for name in ("norm_bias", "classifier_bias"):
        if file.flag(name, default=False):
            raise file.fault(name, "only false can be computed")
    file.must_be("classifier_activation", "gelu", why="only 'gelu' can be computed")
    ignored = ("num_key_value_heads", "head_dim")  # as transformers ignores them here
    content = {name: value for name, value in file.content.items() if name not in ignored}
    sizes = read_sizes(ConfigFile(content, file.path), tied=True, epsilon=("norm_eps", 1e-5))
    n_layer, every = sizes["n_layer"], file.size("global_attn_every_n_layers", 3)
    window = file.size("local_attention", 128) // 2  # of both sides in ModernBERT, of the one before in its decoder
    bases, defaults = ("global_rope_theta", "local_rope_theta"), (160_000.0, 10_000.0)
    rope, local_rope = read_ropes(file, sizes["n_positions"], bases, defaults, scale_both=True)
    has_head = file.flag("lasttoken_lm_head", default=True)
    return ModernBertDecoderConfig(
        **sizes,
        **read_windows(file, n_layer, window, [layer % every != 0 for layer in range(n_layer)]),
        rope=rope,
        local_rope=local_rope,
        activation=read_activation(file, "hidden_activation", "gelu"),
        attention_biases=_biases(file),
        mlp_bias=file.flag("mlp_bias", default=False),
        lm_transform=has_head,
        lm_bias=has_head and file.flag("decoder_bias", default=True),
    )


def _write_modernbert(config: RotaryConfig) -> Content:
    content = write_sizes(config)
    for name in ("num_key_value_heads", "head_dim", "rms_norm_eps", "hidden_act", "rope_theta"):
        del content[name]
    return {
        **content,
        "norm_eps": config.norm_epsilon,
        "hidden_activation": write_activation(config),
        "attention_bias": config.attention_biases == "all",
        "mlp_bias": config.mlp_bias,
        "decoder_bias": config.lm_bias,
        "local_attention": 2 * config.window if config.window else 128,
        "layer_types": write_layer_types(config),
        "rope_parameters": _write_ropes(config),
        **({} if config.lm_transform else {"lasttoken_lm_head": False}),  # a classifier does not keep it
    }


def _family(
    title: str,
    read: Callable[[ConfigFile], RotaryConfig],
    write: Callable[[RotaryConfig], Content],
    classifier_architecture: str | None,
    config_class: type[RotaryConfig],
) -> Family:
    def read_config(content: Mapping[str, Any], path: Path) -> RotaryConfig:
        return read(ConfigFile(content, path))

    is_modernbert = config_class is ModernBertDecoderConfig
    return Family(
        model_type=config_class.model_type,
        title=title,
        build=RotaryDecoder,
        read_config=read_config,
        write_config=write,
        from_published=names.modernbert_from_published if is_modernbert else names.from_published,
        to_published=names.modernbert_to_published if is_modernbert else names.to_published,
        not_weights=names.NOT_WEIGHTS,
        end_of_text=None,
        classifier_architecture=classifier_architecture,
        final_bias=None,
        onnx=RotaryOnnx,
        matrices=names.MATRICES,
    )


ROTARY_FAMILIES = (
    _family("Llama", _read_llama, _write_llama, "LlamaForSequenceClassification", LlamaConfig),
    _family("Mistral", _read_mistral, _write_mistral, "MistralForSequenceClassification", MistralConfig),
    _family("Qwen2", _read_qwen2, _write_qwen2, "Qwen2ForSequenceClassification", Qwen2Config),
    _family("Qwen3", _read_qwen3, _write_qwen3, "Qwen3ForSequenceClassification", Qwen3Config),
    _family("OLMo 2", _read_olmo2, _write_olmo2, "Olmo2ForSequenceClassification", Olmo2Config),
    _family("Gemma 3", _read_gemma3, _write_gemma3, "Gemma3TextForSequenceClassification", Gemma3TextConfig),
    _family("SmolLM3", _read_smollm3, _write_smollm3, "SmolLM3ForSequenceClassification", SmolLM3Config),
    _family("Granite", _read_granite, _write_granite, None, GraniteConfig),
    _family("ModernBERT decoder", _read_modernbert, _write_modernbert, None, ModernBertDecoderConfig),
)
