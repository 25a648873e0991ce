"""Texts as token ids, and the one way in which they go through a network: in packed batches of similar lengths.

texts ─► token_ids [n_tokens] int32, lengths [N] ─► batches of rows, by length, to a token budget ─► compute(rows)

Texts that are longer than the classifier reads are cut; only chapter 6's reading pads shorter ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.backbone.packing import Packing
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.core.device import Device

CHUNK = 4096  # texts tokenized at a time, which bounds the memory of Python lists of ids
FOREIGN_TOKENS_PER_CHARACTER = 0.6  # GPT-2's tokenizer needs about 0.25 for English, 1 and more for other scripts

Rows = NDArray[np.int64]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Encoded:
    """N texts as token ids, end to end."""

    token_ids: NDArray[np.int32]  # [n_tokens]
    lengths: NDArray[np.int64]  # [N], at least 1 each
    cut: NDArray[np.bool_]  # [N], whether the text lost tokens
    n_cut_tokens: int

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def n_tokens(self) -> int:
        """Tokens of all texts."""
        return len(self.token_ids)

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return int(self.lengths.max(initial=0))

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where each text starts, and the end, [N + 1]."""
        return np.concatenate(([0], np.cumsum(self.lengths)))

    def ids_of(self, rows: Iterable[int]) -> NDArray[np.int32]:
        """The token ids of some texts, end to end in the order of `rows`."""
        return np.concatenate([self.token_ids[self.offsets[row] : self.offsets[row + 1]] for row in rows])

    def pack(self, rows: Rows, device: torch.device) -> tuple[Tensor, Packing]:
        """The token ids [n] of some texts on a device, and their packing."""
        return torch.from_numpy(self.ids_of(rows)).to(device), Packing(self.lengths[rows].tolist(), device)


def encode_texts(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    max_length: int | None,
    truncate: str,
    end_of_text_id: int,
    pad: bool = False,
) -> Encoded:
    """Encode texts; cut those longer than `max_length` at the end named by `truncate` (head or tail).

    With `pad`, every text is padded on the right to `max_length` with `end_of_text_id`, as in chapter 6. An empty text
    becomes one `end_of_text_id`, with which GPT-2 separates texts.
    """
    pieces: list[NDArray[np.int32]] = []
    cut = np.zeros(len(texts), dtype=np.bool_)
    n_cut_tokens = 0
    for start in range(0, len(texts), CHUNK):
        for row, ids in enumerate(tokenizer.encode_many(texts[start : start + CHUNK]), start):
            extra = len(ids) - max_length if max_length is not None else 0
            if extra > 0:
                cut[row] = True
                n_cut_tokens += extra
                ids = ids[:max_length] if truncate == "tail" else ids[extra:]
            elif pad:
                ids = ids + [end_of_text_id] * -extra
            pieces.append(np.array(ids or [end_of_text_id], dtype=np.int32))
    token_ids = np.concatenate(pieces) if pieces else np.empty(0, np.int32)
    return Encoded(token_ids, np.array([len(piece) for piece in pieces], dtype=np.int64), cut, n_cut_tokens)


def batches_by_length(lengths: NDArray[np.int64], token_budget: int) -> list[NDArray[np.int64]]:
    """Rows sorted by length, longest first, in batches of at most `token_budget` tokens (at least one row).

    Tokens are shared evenly among the batches. A small batch at the end would have another shape every time, and every
    shape costs memory (backbone/onednn.py).

    >>> [batch.tolist() for batch in batches_by_length(np.array([3, 9, 2, 4]), 7)]
    [[1], [3], [0, 2]]
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start, used = [], 0, 0
    left = int(lengths.sum())  # tokens not in a finished batch
    share = _even_share(left, token_budget)
    for place, row in enumerate(order):
        length = int(lengths[row])
        if used and (used + length > token_budget or used + length / 2 > share):
            batches.append(order[start:place])
            left -= used
            start, used, share = place, 0, _even_share(left, token_budget)
        used += length
    if used:
        batches.append(order[start:])
    return batches


def _even_share(n_tokens: int, token_budget: int) -> float:
    """Tokens of each batch if the fewest batches shared them evenly."""
    return n_tokens / max(-(-n_tokens // token_budget), 1)


def run_by_length(
    compute: Callable[[Rows], Result],
    lengths: NDArray[np.int64],
    device: Device,
    *,
    token_budget: int | None = None,
    parallel: bool = True,
) -> Iterator[tuple[Rows, Result]]:
    """(rows, compute(rows)) for each batch of texts with `lengths` [N]; no gradients are computed.

    Args:
        token_budget: of a batch; None: the device's.
        parallel: see `Device.run`.
    """
    return device.run(compute, batches_by_length(lengths, token_budget or device.token_budget), parallel=parallel)


def tokens_per_character(encoded: Encoded, texts: Iterable[str]) -> float:
    """The mean number of tokens for a character; high where the tokenizer was not made for the language."""
    return encoded.n_tokens / max(sum(len(text) for text in texts), 1)
