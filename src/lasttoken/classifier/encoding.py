"""Texts as token ids, and the one way in which they go through a network: in packed batches of similar lengths.

texts ─► token_ids [n_tokens] int32, lengths [N] ─► batches of rows, by length, to a token budget ─► compute(rows)

A text's token ids are the backbone's frame (backbone/frame.py) and the text's own between it. Texts that are longer
than the classifier reads are cut, the frame is not; only chapter 6's reading pads shorter ones.
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
    n_frame: int = 0  # tokens of each text that are the backbone's frame
    texts: Sequence[str] | None = None  # [N], whole; None where nothing reads them

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

    def texts_of(self, rows: Iterable[int]) -> list[str] | None:
        """Some of the texts; None where they were not kept."""
        return None if self.texts is None else [self.texts[row] for row in rows]

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
    prefix_ids: Sequence[int] = (),
    suffix_ids: Sequence[int] = (),
    pad: bool = False,
) -> Encoded:
    """Encode texts between `prefix_ids` and `suffix_ids`; `truncate` (head or tail) is the end that long ones lose.

    With them a text has at most `max_length` tokens. With `pad`, every text is padded on the right to `max_length` with
    `end_of_text_id`, as in chapter 6. An empty text becomes the prefix and suffix, or if there are none one
    `end_of_text_id`, with which GPT-2 separates texts.
    """
    n_frame = len(prefix_ids) + len(suffix_ids)
    pieces: list[NDArray[np.int32]] = []
    cut = np.zeros(len(texts), dtype=np.bool_)
    n_cut_tokens = 0
    for start in range(0, len(texts), CHUNK):
        for row, ids in enumerate(tokenizer.encode_many(texts[start : start + CHUNK]), start):
            if max_length is not None:
                n_own = len(ids)
                ids = ids[kept_tokens(n_own, max_length - n_frame, truncate)]
                cut[row] = len(ids) < n_own
                n_cut_tokens += n_own - len(ids)
            if n_frame:
                ids = [*prefix_ids, *ids, *suffix_ids]
            if pad and max_length is not None:
                ids = ids + [end_of_text_id] * (max_length - len(ids))
            pieces.append(np.array(ids or [end_of_text_id], dtype=np.int32))
    token_ids = np.concatenate(pieces) if pieces else np.empty(0, np.int32)
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    return Encoded(token_ids, lengths, cut, n_cut_tokens, n_frame, texts)


def kept_tokens(n_tokens: int, room: int, truncate: str) -> slice:
    """The part of a text's own tokens that is read where there is room for `room`; `truncate` is the end that is cut.

    >>> kept_tokens(10, 4, "tail"), kept_tokens(10, 4, "head")
    (slice(0, 4, None), slice(6, 10, None))
    """
    n_kept = min(n_tokens, max(room, 0))
    return slice(0, n_kept) if truncate == "tail" else slice(n_tokens - n_kept, n_tokens)


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
    """The mean number of tokens for a character; high where the tokenizer was not made for the language.

    The frame's tokens do not count.
    """
    n_own = encoded.n_tokens - len(encoded) * encoded.n_frame
    return n_own / max(sum(len(text) for text in texts), 1)
