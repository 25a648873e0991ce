"""The recipes: named sets of differences to the default settings, and how each handles data.

`book` reproduces chapter 6 of *Build a Large Language Model (From Scratch)*; `default` was chosen in
docs/decisions/default-recipe.md. To add a recipe, add an entry to `RECIPES` and one to `HANDLING`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DataHandling:
    """How a recipe handles data. These are settings without flags: they follow from the recipe alone."""

    quotes_in_tsv: bool = False  # `label<TAB>text` files are read with CSV's quotes, as pandas reads them
    chapter_split: bool = False  # all rows are balanced, then shuffled and cut; equal texts may be in two splits
    numbered_labels: bool = False  # `lasttoken split` writes the columns Label, Text with label ids
    lists_batches: bool = False  # the number and the shape of batches are said before training
    fixed_shares: bool = False  # with accumulate n every batch counts 1/n, in the last update of an epoch too
    lora_like_book: bool = False  # LoRA has an update of the head too, and the final norm is frozen


RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "book": {
        "balance": "undersample",
        "train_fraction": 0.7,
        "validation_fraction": 0.1,
        "method": "tail",
        "train_blocks": "1",
        "read": "padded-last",
        "epochs": 5,
        "batch_size": 8,
        "learning_rate": 5e-5,
        "schedule": "constant",
        "warmup_fraction": 0.0,
        "weight_decay": 0.1,
        "clip_norm": 0.0,
        "drop_last": True,
        "eval_every": 50,
        "eval_batches": 5,
        "start_head": "drawn",
        "keep": "last",
        "patience": 0,
        "seed": 123,
        "precision": "float32",
        "calibrate": False,
    },
}

HANDLING = {
    "default": DataHandling(),
    "book": DataHandling(
        quotes_in_tsv=True,
        chapter_split=True,
        numbered_labels=True,
        lists_batches=True,
        fixed_shares=True,
        lora_like_book=True,
    ),
}
