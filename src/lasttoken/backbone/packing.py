"""Texts of different lengths laid end to end in one tensor, with no padding between them.

    lengths    3, 1, 2
    packed     a0 a1 a2 b0 c0 c1        [n_tokens, ...]   for linear layers and norms: no padding to compute
    padded     a0 a1 a2                 [B, T, ...]       for attention; T = longest
               b0 -- --
               c0 c1 --

Under a causal mask no token attends to what follows its text, so right-padding needs no mask of its own.

Attention costs B·T², so one long text would make a whole batch expensive. On CPUs it is computed in groups of texts of
similar lengths, each padded separately (`pad_groups`). A GPU would lose more time to the extra calls.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

MIN_LENGTH_RATIO = 0.6  # of a group's shortest text to its longest; measured: benchmarks/2026-11-25-serving.md

T = TypeVar("T")


class Packing:
    """The positions of B packed texts in one tensor; created once for a batch and shared by all layers."""

    def __init__(self, lengths: Sequence[int], device: torch.device | str = "cpu") -> None:
        """`lengths`: tokens of each text, at least 1."""
        self.device = torch.device(device)
        self.sizes = list(lengths)
        self.n_texts = len(self.sizes)  # B
        self.longest = max(self.sizes)  # T
        self.n_tokens = sum(self.sizes)
        self.uniform = self.n_tokens == self.n_texts * self.longest
        self._tables: dict[Hashable, Any] = {}

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
        """True where the padded layout has a token, [B, T]."""
        return torch.arange(self.longest, device=self.device) < self.lengths[:, None]

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What `compute` gives, computed at the first call with this key: for tables that all blocks share."""
        if key not in self._tables:
            self._tables[key] = compute()
        return self._tables[key]  # type: ignore[no-any-return]

    def pad(self, packed: Tensor) -> Tensor:
        """[n_tokens, ...] -> [B, T, ...], zeros after the end of each text."""
        shape = (self.n_texts, self.longest, *packed.shape[1:])
        if self.uniform:
            return packed.view(shape)
        padded = packed.new_zeros(self.n_texts * self.longest, *packed.shape[1:])
        return padded.index_copy_(0, self._slots, packed).view(shape)

    def unpad(self, padded: Tensor) -> Tensor:
        """[B, T, ...] -> [n_tokens, ...]."""
        flat = padded.reshape(self.n_texts * self.longest, *padded.shape[2:])
        return flat if self.uniform else flat.index_select(0, self._slots)

    @cached_property
    def _members(self) -> list[list[int]]:
        """The indices of the texts in each group, longest text first."""
        if self.device.type != "cpu":
            return [list(range(self.n_texts))]
        order = sorted(range(self.n_texts), key=lambda text: -self.sizes[text])
        groups = [[order[0]]]
        for text in order[1:]:
            if self.sizes[text] < MIN_LENGTH_RATIO * self.sizes[groups[-1][0]]:
                groups.append([])
            groups[-1].append(text)
        return groups

    @cached_property
    def groups(self) -> list[Packing]:
        """A packing for each group of texts of similar lengths; if there is one group, it is this packing itself."""
        if len(self._members) == 1:
            return [self]
        return [Packing([self.sizes[text] for text in texts], self.device) for texts in self._members]

    @cached_property
    def _group_slots(self) -> Tensor:
        """The index of each token in the groups' padded layouts laid end to end, [n_tokens]."""
        firsts, start = [0] * self.n_texts, 0
        for texts, group in zip(self._members, self.groups, strict=True):
            for place, text in enumerate(texts):
                firsts[text] = start + place * group.longest
            start += len(texts) * group.longest
        return torch.tensor(firsts, device=self.device)[self._texts] + self.positions

    @cached_property
    def _group_sources(self) -> Tensor:
        """The token in each place of the groups' padded layouts laid end to end; in padding the text's last token.

        One gathering pass is faster than zeros and a scattering one.
        """
        if len(self.groups) == 1:  # whose texts are in the order of this packing
            starts = [self.starts]
        else:
            starts = [self.starts[torch.tensor(texts, device=self.device)] for texts in self._members]
        within = [
            torch.arange(group.longest, device=self.device).minimum(group.lengths[:, None] - 1) for group in self.groups
        ]
        return torch.cat([(first[:, None] + place).flatten() for first, place in zip(starts, within, strict=True)])

    def pad_groups(self, packed: Tensor) -> list[Tensor]:
        """[n_tokens, ...] -> each group's [B, T, ...]. Padding is zeros, or the text's last token again."""
        if self.uniform or (packed.requires_grad and len(self.groups) == 1):
            return [self.pad(packed)]
        sizes = [group.n_texts * group.longest for group in self.groups]
        if packed.requires_grad:
            padded = packed.new_zeros(sum(sizes), *packed.shape[1:]).index_copy_(0, self._group_slots, packed)
        else:
            padded = packed.index_select(0, self._group_sources)
        return [
            piece.view(group.n_texts, group.longest, *packed.shape[1:])
            for group, piece in zip(self.groups, torch.split(padded, sizes), strict=True)
        ]

    def unpad_groups(self, padded: Iterable[Tensor]) -> Tensor:
        """Each group's [B, T, ...] -> [n_tokens, ...]."""
        pieces = list(padded)
        if len(pieces) == 1:
            return self.unpad(pieces[0])
        return torch.cat([piece.flatten(0, 1) for piece in pieces]).index_select(0, self._group_slots)

    def mean(self, packed: Tensor, around: tuple[int, int] = (0, 0)) -> Tensor:
        """The mean over each text's tokens, [n_tokens, C] -> [B, C].

        `around`: the number of tokens at the start and at the end of every text that do not count, unless a text has no
        others.
        """
        if any(around):
            inside, n_inside = self.once(("inside", around), lambda: self._inside(around))
            total = packed.new_zeros(self.n_texts, packed.shape[1])
            return total.index_add(0, self._texts[inside], packed[inside]) / n_inside[:, None]
        if self.uniform:
            return self.pad(packed).mean(1)
        total = packed.new_zeros(self.n_texts, packed.shape[1]).index_add(0, self._texts, packed)
        return total / self.lengths[:, None]

    def _inside(self, around: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The indices of the tokens that are not `around` their text, and their number in each text, [B]."""
        is_empty = self.lengths <= sum(around)
        first = torch.where(is_empty, 0, around[0])[self._texts]
        end = torch.where(is_empty, self.lengths, self.lengths - around[1])[self._texts]
        inside = (self.positions >= first) & (self.positions < end)
        return inside.nonzero()[:, 0], torch.where(is_empty, self.lengths, self.lengths - sum(around))
