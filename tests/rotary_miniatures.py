"""A miniature config of each family with rotary positions, with every switch that its config.json has turned on."""

from __future__ import annotations

from typing import Any

from lasttoken.backbone.rotary.config import Rope, RotaryConfig
from lasttoken.backbone.rotary.families import (
    Gemma3TextConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    ModernBertDecoderConfig,
    Olmo2Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

SIZES: dict[str, Any] = {
    "vocab_size": 261,
    "n_positions": 24,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_kv_heads": 2,
    "head_dim": 10,  # heads are wider together than the network
    "n_inner": 48,
    "norm_epsilon": 1e-3,
}
LLAMA3 = Rope(500.0, "llama3", 8.0, original_positions=16, low_freq_factor=1.0, high_freq_factor=4.0)
YARN = Rope(
    500.0, "yarn", 4.0, original_positions=16, beta_fast=8.0, beta_slow=2.0, truncate=False, attention_factor=1.2
)

ROTARY_MINIATURES: dict[str, RotaryConfig] = {
    "llama": LlamaConfig(**SIZES, rope=LLAMA3, attention_biases="all", mlp_bias=True),
    "mistral": MistralConfig(**SIZES, rope=Rope(100.0), window=5, windowed_blocks=(0, 1, 2)),
    "qwen2": Qwen2Config(**SIZES, rope=YARN, window=5, windowed_blocks=(1, 2)),
    "qwen3": Qwen3Config(
        **SIZES, rope=Rope(1e4, "linear", 2.0), attention_biases="all", window=4, windowed_blocks=(0, 2)
    ),
    "olmo2": Olmo2Config(**SIZES, rope=Rope(5e5), attention_biases="all"),
    "gemma3_text": Gemma3TextConfig(
        **SIZES,
        rope=Rope(1e3, "linear", 8.0),
        local_rope=Rope(1e2),
        window=5,
        windowed_blocks=(0, 2),
        activation="gelu_tanh",
        attention_biases="all",
        attention_scale=20**-0.5,
        embedding_multiplier=32**0.5,
        logits_softcap=3.0,
    ),
    "smollm3": SmolLM3Config(
        **SIZES,
        rope=Rope(2e6),
        blocks_without_rope=(1,),
        window=6,
        windowed_blocks=(1,),
        attention_biases="all",
        mlp_bias=True,
    ),
    "granite": GraniteConfig(
        **SIZES,
        rope=Rope(1e4),
        attention_biases="all",
        mlp_bias=True,
        attention_scale=0.2,
        embedding_multiplier=6.0,
        residual_multiplier=0.4,
        logits_divisor=3.0,
    ),
    "modernbert-decoder": ModernBertDecoderConfig(
        **SIZES | {"n_kv_heads": 4, "head_dim": 8},
        rope=Rope(1.6e5),
        local_rope=Rope(1e2),
        window=4,
        windowed_blocks=(1, 2),
        activation="gelu",
        attention_biases="all",
        mlp_bias=True,
    ),
}
