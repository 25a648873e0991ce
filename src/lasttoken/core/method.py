"""What a training method implies for the settings that the user did not give, and which settings it does not use.

    --method   trains                                              depth, pooling, n-grams   blocks
    tail       the last blocks, final norm and head, by AdamW      as set                    --train-blocks
    linear     the head, as a logistic regression                  chosen on validation      head
    auto       both, and keeps the better one on validation        chosen on validation      --train-blocks, or head

A setting that the user gives always wins over what the method implies. Where no method is given, but a setting that
only the tail has, the method is tail; a head without a bias is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHODS = ("auto", "linear", "tail")
DEFAULT_METHOD = "auto"
IMPLIED: dict[str, dict[str, Any]] = {
    "tail": {},
    "linear": {"train_blocks": "head", "depth": "auto", "ngrams": "auto"},
    "auto": {"depth": "auto", "ngrams": "auto"},
}
OF_THE_TAIL = (  # settings that a logistic regression does not use
    "epochs",
    "batch_size",
    "accumulate",
    "learning_rate",
    "schedule",
    "warmup_fraction",
    "start_head",
    "weight_decay",
    "clip_norm",
    "label_smoothing",
    "drop_last",
    "eval_every",
    "eval_batches",
    "keep",
    "patience",
)  # and those of LoRA, see lora.py


def with_implied(given: Mapping[str, Any], default: str = DEFAULT_METHOD) -> dict[str, Any]:
    """The given settings with what their method implies.

    >>> with_implied({"method": "linear", "read": "mean"})
    {'train_blocks': 'head', 'depth': 'auto', 'ngrams': 'auto', 'method': 'linear', 'read': 'mean'}
    >>> with_implied({"epochs": 3}, default="auto")
    {'epochs': 3, 'method': 'tail'}
    """
    trains_tail = any(name in given for name in ("train_blocks", *OF_THE_TAIL)) or given.get("head_bias") is False
    method = given.get("method") or ("tail" if trains_tail else default)
    return {**IMPLIED.get(method, {}), **given, "method": method}
