"""A head that starts from the language model's own rows for the label words, for labels that are words.

    "sports" ─► tokens of " sports" ─► rows of the language-model head ─► their mean, centred over the labels ─► [K, C]

With few rows a logistic regression may shrink towards these weights in place of zero (linear.py). They say which
states the backbone would follow with the label's word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.tokenizer import Tokenizer

SCALES = (0.5, 2.0)  # standard deviations of the logits that the starting head gives to the rows; each is tried
WORD = re.compile(r"[^\W\d_]{3,}")


def are_words(labels: Sequence[str]) -> bool:
    """Whether every label holds a word of at least three letters.

    >>> are_words(["sports", "world_news"]), are_words(["0", "1"]), are_words(["A1", "B2"])
    (True, False, False)
    """
    return all(WORD.search(label) for label in labels)


@torch.no_grad()
def label_rows(decoder: Decoder, tokenizer: Tokenizer, labels: Sequence[str]) -> NDArray[np.float32]:
    """The rows of the labels, [K, C], centred over the labels."""
    embedding = dict(decoder.named_parameters()).get("lm_head.weight", decoder.token_embedding)
    words = [" " + " ".join(re.split(r"[_\W]+", label)).strip() for label in labels]
    ids = tokenizer.encode_many(words)
    rows = torch.stack([embedding[torch.tensor(each)].float().mean(0) for each in ids]).cpu().numpy()
    return np.asarray(rows - rows.mean(0), dtype=np.float32)


def target_of(rows: NDArray[np.float32], features: NDArray[np.float32], read: str, scale: float) -> NDArray[np.float32]:
    """The rows [K, C] as weights of features [N, F], scaled so that their logits vary by `scale`."""
    if read == "last+mean":
        rows = np.concatenate([rows, np.zeros_like(rows)], axis=1)
    spread = float((features @ rows.T).std(0).mean())
    return np.asarray(rows * (scale / max(spread, 1e-12)), dtype=np.float32)
