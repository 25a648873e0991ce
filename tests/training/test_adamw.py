"""AdamW is torch's."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from lasttoken.training.adamw import AdamW


def parameters(dtype: torch.dtype) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"weight": (5, 7), "bias": (5,), "idle": (3,)}
    return {name: nn.Parameter(torch.randn(shape, dtype=dtype, generator=generator)) for name, shape in shapes.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_twenty_steps_are_torchs_bit_for_bit(dtype: torch.dtype) -> None:
    ours, theirs = parameters(dtype), parameters(dtype)
    optimizer = AdamW(ours, weight_decay=0.1)
    oracle = torch.optim.AdamW(theirs.values(), weight_decay=0.1, fused=True)
    generator = torch.Generator().manual_seed(1)
    for step in range(20):
        rate = 1e-2 / (1 + step)
        for name in ("weight", "bias"):
            grad = torch.randn(ours[name].shape, dtype=dtype, generator=generator)
            ours[name].grad, theirs[name].grad = grad.clone(), grad.clone()
        oracle.param_groups[0]["lr"] = rate
        optimizer.step(rate)
        oracle.step()
        optimizer.zero_grad()
        assert ours["weight"].grad is None
    for name, parameter in ours.items():
        assert torch.equal(parameter, theirs[name])
    assert torch.equal(ours["idle"], parameters(dtype)["idle"])  # no gradient, so not even decayed
    assert "idle" not in optimizer.moments


def test_training_does_not_import_torchs_compiler() -> None:
    code = (
        "import sys, torch; from lasttoken.training.adamw import AdamW; p = torch.nn.Parameter(torch.ones(3)); "
        "p.grad = torch.ones(3); AdamW({'p': p}, 0.1).step(0.1); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
