"""config.json of the families with rotary positions: what all have in common, in both directions.

A family's own fields are read and written in families.py.
"""

from __future__ import annotations

from typing import Any

from lasttoken.backbone.rotary.config import Activation, RotaryConfig
from lasttoken.backbone.rotary.config_file import ConfigFile
from lasttoken.backbone.rotary.rope_file import FULL, SLIDING, write_rope

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}
LAYER_TYPES = {FULL: False, SLIDING: True}


def read_sizes(
    file: ConfigFile, *, tied: bool, epsilon: tuple[str, float] = ("rms_norm_eps", 1e-6), head_dim: int | None = None
) -> dict[str, Any]:
    """The sizes that all families have. The arguments are what holds if config.json does not say.

    `head_dim`: None: the width divided by the heads.

    Raises:
        BackboneError: a size is missing or invalid, or sizes contradict each other.
    """
    n_head = file.size("num_attention_heads")
    width = file.size("hidden_size")
    if head_dim is None and not file.has("head_dim") and width % n_head:
        raise file.fault("hidden_size", f"it must be a multiple of num_attention_heads, {n_head}")
    sizes: dict[str, Any] = {
        "vocab_size": file.size("vocab_size"),
        "n_positions": file.size("max_position_embeddings"),
        "n_embd": width,
        "n_layer": file.size("num_hidden_layers"),
        "n_head": n_head,
        "n_kv_heads": file.size("num_key_value_heads", n_head),
        "head_dim": file.size("head_dim", head_dim or width // n_head),
        "n_inner": file.size("intermediate_size"),
        "norm_epsilon": file.number(*epsilon),
        "tied": file.flag("tie_word_embeddings", tied),
    }
    if n_head % sizes["n_kv_heads"]:
        raise file.fault("num_key_value_heads", f"it must divide num_attention_heads, {n_head}")
    if sizes["head_dim"] % 2:
        raise file.fault("head_dim", f"a head of {sizes['head_dim']} numbers cannot be rotated, because it is odd")
    return sizes


def read_activation(file: ConfigFile, name: str = "hidden_act", default: str = "silu") -> Activation:
    """The activation of the gate.

    Raises:
        BackboneError: another function.
    """
    activation: Activation = file.choice(name, ACTIVATIONS, default)
    return activation


def read_windows(file: ConfigFile, n_layer: int, window: int, windowed: list[bool]) -> dict[str, Any]:
    """The window and the blocks that have it; `layer_types` overrides `windowed`.

    Raises:
        BackboneError: an unknown type of block.
    """
    if file.has("layer_types"):
        types = file.items("layer_types", n_layer)
        unknown = [kind for kind in types if not isinstance(kind, str) or kind not in LAYER_TYPES]
        if unknown:
            raise file.fault("layer_types", f"only {FULL!r} and {SLIDING!r} can be computed")
        windowed = [LAYER_TYPES[kind] for kind in types]
    blocks = tuple(layer for layer in range(n_layer) if windowed[layer] and window)
    return {"window": window, "windowed_blocks": blocks} if blocks else {}


def write_sizes(config: RotaryConfig) -> dict[str, Any]:
    """What `read_sizes` reads, with the names that most families give it, and one rotary embedding for all blocks."""
    return {
        "model_type": config.model_type,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.n_positions,
        "hidden_size": config.n_embd,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.n_inner,
        "rms_norm_eps": config.norm_epsilon,
        "hidden_act": write_activation(config),
        "tie_word_embeddings": config.tied,
        "rope_parameters": write_rope(config.rope),
        "rope_theta": config.rope.theta,  # for transformers before version 5
    }


def write_activation(config: RotaryConfig) -> str:
    """The activation as config.json names it."""
    return next(name for name, activation in ACTIVATIONS.items() if activation == config.activation)


def write_layer_types(config: RotaryConfig) -> list[str]:
    """The type of each block."""
    return [SLIDING if layer in config.windowed_blocks else FULL for layer in range(config.n_layer)]
