"""Rotary positions in a config.json, in today's form and in the one of transformers before version 5.

today    rope_parameters: {rope_type, rope_theta, factor, ...}, or one such object for each type of block
before   rope_theta, rope_scaling: {rope_type or type, factor, ...}, and a family's own names for a second base
"""

from __future__ import annotations

import math
from typing import Any

from lasttoken.backbone.rotary.config import Rope, Scaling
from lasttoken.backbone.rotary.config_file import ConfigFile

SCALINGS: dict[str, Scaling] = {"default": "none", "linear": "linear", "llama3": "llama3", "yarn": "yarn"}
FULL, SLIDING = "full_attention", "sliding_attention"


def read_rope(file: ConfigFile, n_positions: int, default_theta: float = 10_000.0) -> Rope:
    """The rotary embedding of a model that has one for all blocks.

    Raises:
        BackboneError: another scaling, or a missing or invalid number.
    """
    theta = file.number("rope_theta", default_theta)
    return _read(file.inner("rope_parameters") or file.inner("rope_scaling"), file, theta, n_positions)


def read_ropes(
    file: ConfigFile, n_positions: int, names: tuple[str, str], defaults: tuple[float, float], *, scale_both: bool
) -> tuple[Rope, Rope]:
    """The rotary embeddings of blocks without and with a window.

    `names`: the older fields of their bases. `scale_both`: an older `rope_scaling` is meant for both.

    Raises:
        BackboneError: see `read_rope`.
    """
    nested, old = file.inner("rope_parameters"), file.inner("rope_scaling")
    full, sliding = (file.number(name, default) for name, default in zip(names, defaults, strict=True))
    if nested is not None:
        return (
            _read(nested.inner(FULL), file, full, n_positions),
            _read(nested.inner(SLIDING), file, sliding, n_positions),
        )
    return _read(old, file, full, n_positions), _read(old if scale_both else None, file, sliding, n_positions)


def _read(rope: ConfigFile | None, file: ConfigFile, theta: float, n_positions: int) -> Rope:
    file.must_be("partial_rotary_factor", 1.0, why="only rotating the whole head can be computed")
    if rope is None:
        return Rope(theta)
    rope.must_be("partial_rotary_factor", 1.0, why="only rotating the whole head can be computed")
    theta = rope.number("rope_theta", theta)
    kind = "rope_type" if rope.has("rope_type") else "type"
    scaling = rope.choice(kind, SCALINGS, "default")
    if scaling == "none":
        return Rope(theta)
    factor = rope.number("factor")
    if scaling == "linear":
        return Rope(theta, scaling, factor)
    original = file if file.has("original_max_position_embeddings") else rope
    original_positions = original.size("original_max_position_embeddings", n_positions)
    if scaling == "llama3":
        low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
        if high <= low:
            raise rope.fault("high_freq_factor", f"it must be above low_freq_factor, {low:g}")
        return Rope(theta, scaling, factor, original_positions, low_freq_factor=low, high_freq_factor=high)
    return Rope(
        theta,
        scaling,
        factor,
        original_positions,
        beta_fast=rope.number("beta_fast", 32.0),
        beta_slow=rope.number("beta_slow", 1.0),
        truncate=rope.flag("truncate", default=True),
        attention_factor=rope.number("attention_factor", _attention_factor(rope, factor)),
    )


def _attention_factor(rope: ConfigFile, factor: float) -> float:
    """What YaRN multiplies sine and cosine by, if the file does not say."""

    def scale(multiplier: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * multiplier * math.log(factor) + 1.0

    if rope.has("mscale") and rope.has("mscale_all_dim"):
        return scale(rope.number("mscale")) / scale(rope.number("mscale_all_dim"))
    return scale(1.0)


def write_rope(rope: Rope) -> dict[str, Any]:
    """The object that `rope_parameters` holds."""
    kind = next(name for name, scaling in SCALINGS.items() if scaling == rope.scaling)
    written: dict[str, Any] = {"rope_type": kind, "rope_theta": rope.theta}
    if rope.scaling != "none":
        written["factor"] = rope.factor
    if rope.scaling in ("llama3", "yarn"):
        written["original_max_position_embeddings"] = rope.original_positions
    if rope.scaling == "llama3":
        written |= {"low_freq_factor": rope.low_freq_factor, "high_freq_factor": rope.high_freq_factor}
    if rope.scaling == "yarn":
        written |= {"beta_fast": rope.beta_fast, "beta_slow": rope.beta_slow, "truncate": rope.truncate}
        written["attention_factor"] = rope.attention_factor
    return written
