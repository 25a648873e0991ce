"""Weights stored in 16 bits: they stay mapped from their file, and are converted to float32 where they are used.

    model.safetensors, bfloat16 ──map──► matrix [out, in] ──float32 copy──► one multiplication ──► copy freed

A trunk of 1.7 billion parameters then takes the 3.4 GB of its file, and not 6.8 GB more. bfloat16 and float16 convert
to float32 exactly, so results are those of weights that were converted before. Vectors (norms, biases) are converted
when they are read, because they take no room; so are matrices that are trained (classifier.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HALF = (torch.bfloat16, torch.float16)


def is_half(tensor: Tensor) -> bool:
    """Whether a tensor is stored in 16 bits."""
    return tensor.dtype in HALF


def to_float32(weight: Tensor) -> Tensor:
    """A float32 copy of a weight stored in 16 bits, with the same strides; any other weight itself."""
    return weight.float() if is_half(weight) else weight


def as_stored(tensor: Tensor) -> Tensor:
    """A tensor of a file as a decoder holds it: matrices in 16 bits stay as they are, all other weights are float32."""
    if not tensor.is_floating_point() or (is_half(tensor) and tensor.dim() > 1):
        return tensor
    return tensor.float()


class Embedding(nn.Embedding):
    """A table of vectors [n, C], unset until weights are loaded; vectors are converted when they are looked up."""

    def __init__(self, n: int, width: int) -> None:
        # Not drawn: the random start, on the meta device, imports torch's compiler (two seconds, for nothing).
        super().__init__(n, width, _weight=torch.empty(n, width))

    def forward(self, ids: Tensor) -> Tensor:
        """Ids [n] -> their vectors [n, C], at least in float32."""
        return to_float32(F.embedding(ids, self.weight))
