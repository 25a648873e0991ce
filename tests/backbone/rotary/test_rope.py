"""Rotary positions: frequencies equal to transformers', turns that only know distances, and their gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from lasttoken.backbone.packing import Packing
from lasttoken.backbone.rotary.config import Rope
from lasttoken.backbone.rotary.config_file import ConfigFile
from lasttoken.backbone.rotary.rope import MIN_POSITIONS, Rotation, frequencies, rotate
from lasttoken.backbone.rotary.rope_file import read_rope, write_rope

LLAMA3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 8.0}
SCALED: list[dict[str, Any]] = [
    {"rope_type": "linear", "factor": 4.0},
    {**LLAMA3, "original_max_position_embeddings": 8192},
    {**LLAMA3, "factor": 8.0, "low_freq_factor": 0.5, "original_max_position_embeddings": 512},
    LLAMA3,
    YARN,
    {**YARN, "original_max_position_embeddings": 4096, "beta_fast": 16, "beta_slow": 2},
    {**YARN, "truncate": False, "attention_factor": 1.3},
    {**YARN, "factor": 1.0},
    {**YARN, "mscale": 0.7, "mscale_all_dim": 0.5},
]


@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
@pytest.mark.parametrize("scaling", SCALED, ids=str)
def test_scaled_frequencies_are_those_of_transformers(scaling: dict[str, Any], theta: float, tmp_path: Any) -> None:
    parameters = {**scaling, "rope_theta": theta}
    config = LlamaConfig(head_dim=64, max_position_embeddings=131_072, rope_parameters=dict(parameters))
    expected, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, None)
    rope = read_rope(ConfigFile({"rope_parameters": parameters}, tmp_path), 131_072)
    torch.testing.assert_close(frequencies(rope, 64), expected, rtol=1e-6, atol=0)
    assert rope.attention_factor == pytest.approx(factor)
    assert read_rope(ConfigFile({"rope_parameters": write_rope(rope)}, tmp_path), 131_072) == rope


def test_scores_depend_on_the_distance_only() -> None:
    rotation = Rotation(Rope(10_000.0), 16)
    q, k = torch.randn(2, 1, 1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def score(i: int, j: int) -> float:
        turned = (rotate(x, rotation.of_range(at, at + 1, x)) for x, at in ((q, i), (k, j)))
        return float(torch.mul(*turned).sum())

    assert score(9, 4) == pytest.approx(score(45, 40), abs=1e-5)
    assert score(0, 0) == pytest.approx(float((q * k).sum()))
    assert abs(score(9, 4) - score(9, 5)) > 1e-3


def test_the_gradient_of_a_turn_is_the_turn_back() -> None:
    table = Rotation(Rope(100.0), 6).of_range(3, 8, torch.zeros(1, dtype=torch.float64))
    x = torch.randn(5, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: rotate(x, table), x)


def test_a_table_grows_and_is_looked_up_once_for_a_batch() -> None:
    rotation, like, packing = Rotation(Rope(100.0), 6), torch.zeros(1), Packing([3, 1, 5])
    cos, sin = rotation.of_packing(packing, like)
    assert cos.shape == sin.shape == (9, 1, 3)
    assert rotation.of_packing(packing, like)[0] is cos
    assert torch.equal(cos[4:], rotation.of_range(0, 5, like)[0])
    first = rotation.of_range(0, 5, like)[0].clone()
    assert len(rotation.table(MIN_POSITIONS + 1, like)[0]) > MIN_POSITIONS
    assert torch.equal(rotation.of_range(0, 5, like)[0], first)
    assert rotation.of_range(0, 5, like.double())[0].dtype == torch.float64
