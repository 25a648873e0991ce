"""Texts to token ids, packed, cut and (in the book's recipe only) padded; and rows to batches.

texts ──► token_ids [n_tokens] int32 + lengths [N]      ──► batches of rows, by length, to a token budget
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lasttoken.backbone.tokenizer import Tokenizer

CHUNK = 4096  # texts tokenized at a time, so that Python lists of ids never pile up
FOREIGN_TOKENS_PER_CHARACTER = 0.6  # English gives GPT-2 about 0.25, other scripts 1 and more


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
        """The token ids of some texts, end to end in that order."""
        return np.concatenate([self.token_ids[self.offsets[row] : self.offsets[row + 1]] for row in rows])


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

    With `pad`, every text is filled up to `max_length` on the right with `end_of_text_id`, as chapter 6 does. An
    empty text becomes one `end_of_text_id`: GPT-2's own sign for "a new text starts here".
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
    """Rows sorted by length, longest first, in batches of at most `token_budget` tokens (one row at least).

    Short texts share their tokens evenly among the batches: a small one at the end would be of another shape every
    time, and every shape costs memory (backbone/linear.py).

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


def tokens_per_character(encoded: Encoded, texts: Iterable[str]) -> float:
    """How much of a text a token holds; high where the tokenizer was not made for the language."""
    return encoded.n_tokens / max(sum(len(text) for text in texts), 1)
