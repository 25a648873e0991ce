"""The norms of the network: RMSNorm, or LayerNorm without bias.

Source: Zhang and Sennrich 2019, *Root Mean Square Layer Normalization*. torch's own operator computes it, which is one
call with a gradient of its own. The fastest form by hand takes six.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lasttoken.backbone.rotary.config import RotaryConfig


class RMSNorm(nn.Module):
    """x / √(mean(x²) + ε) · weight over the last axis; with `plus_one` · (1 + weight), as Gemma stores its norms."""

    def __init__(self, width: int, epsilon: float, plus_one: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.epsilon, self.plus_one = epsilon, plus_one

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        weight = self.weight + 1 if self.plus_one else self.weight
        return F.rms_norm(x, (len(weight),), weight, self.epsilon)


def norm_of(config: RotaryConfig, width: int) -> nn.Module:
    """A norm over `width` numbers, of the kind that the config says."""
    if config.norm == "layer":
        return nn.LayerNorm(width, eps=config.norm_epsilon, bias=False)
    return RMSNorm(width, config.norm_epsilon, config.norm_plus_one)
