"""Texts of different lengths laid end to end in one tensor, with no padding between them.

    lengths    3, 1, 2
    packed     a0 a1 a2 b0 c0 c1        [n_tokens, ...]   linear layers and norms work here, wasting nothing
    padded     a0 a1 a2                 [B, T, ...]       attention works here, T = longest
               b0 -- --
               c0 c1 --

Under a causal mask what stands after a text's end is never seen from inside it, so right-padding needs no
mask of its own there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor


class Packing:
    """Where each of B packed texts lies. Made once for a batch and shared by all its layers."""

    def __init__(self, lengths: Sequence[int], device: torch.device | str = "cpu") -> None:
        """`lengths`: tokens of each text, at least one each."""
        self.device = torch.device(device)
        self.sizes = list(lengths)
        self.n_texts = len(self.sizes)  # B
        self.longest = max(self.sizes)  # T
        self.n_tokens = sum(self.sizes)
        self.uniform = self.n_tokens == self.n_texts * self.longest

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens of each text, [B]."""
        return torch.tensor(self.sizes, device=self.device)

    @cached_property
    def starts(self) -> Tensor:
        """Index of each text's first token in the packed tensor, [B]."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def _texts(self) -> Tensor:
        return torch.repeat_interleave(
            torch.arange(self.n_texts, device=self.device), self.lengths, output_size=self.n_tokens
        )

    @cached_property
    def positions(self) -> Tensor:
        """Position of each token in its own text, [n_tokens]."""
        return torch.arange(self.n_tokens, device=self.device) - self.starts[self._texts]

    @cached_property
    def _slots(self) -> Tensor:
        return self._texts * self.longest + self.positions

    @cached_property
    def visible(self) -> Tensor:
        """True where the padded layout holds a token, [B, T]."""
        return torch.arange(self.longest, device=self.device) < self.lengths[:, None]

    def pad(self, packed: Tensor) -> Tensor:
        """[n_tokens, ...] -> [B, T, ...], zeros after each text's end."""
        shape = (self.n_texts, self.longest, *packed.shape[1:])
        if self.uniform:
            return packed.view(shape)
        padded = packed.new_zeros(self.n_texts * self.longest, *packed.shape[1:])
        return padded.index_copy(0, self._slots, packed).view(shape)

    def unpad(self, padded: Tensor) -> Tensor:
        """[B, T, ...] -> [n_tokens, ...]."""
        flat = padded.reshape(self.n_texts * self.longest, *padded.shape[2:])
        return flat if self.uniform else flat.index_select(0, self._slots)

    def mean(self, packed: Tensor) -> Tensor:
        """The mean over each text's tokens, [n_tokens, C] -> [B, C]."""
        if self.uniform:
            return self.pad(packed).mean(1)
        total = packed.new_zeros(self.n_texts, packed.shape[1]).index_add(0, self._texts, packed)
        return total / self.lengths[:, None]
