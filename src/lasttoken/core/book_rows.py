"""The 19 rows of the experiments table of chapter 6, as data: what each changes in the recipe `book`.

    resolve("book", row.settings)      the settings of a row
    row.flags                          the same as flags of `lasttoken train DATA --recipe book`
    row.script                         the options of the book's script that the table runs the row with
    row.test_percent, row.n_correct    the published test accuracy, and the same as correct texts of `TEST_ROWS`

A row holds only what differs from the recipe; `backbone` is always among its settings, so that a study may replace it.
Source: README.md and additional_experiments.py in ch06/02_bonus_additional-experiments of rasbt/LLMs-from-scratch;
docs/book.md shows the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lasttoken.core.config import flag_of, switch_of

TEST_ROWS = 300  # of the test split, on which the published accuracies were measured


@dataclass(frozen=True)
class BookRow:
    """One row of the table."""

    number: int  # in the table, from 1
    change: str  # what it changes against row 1, in a few words
    settings: Mapping[str, Any]  # names and values of `Settings` that differ from the recipe
    script: str  # options of additional_experiments.py
    test_percent: float  # published test accuracy, one seed

    @property
    def n_correct(self) -> int:
        """The published accuracy as a number of test texts.

        >>> BOOK_ROWS[0].n_correct
        285
        """
        return round(self.test_percent / 100 * TEST_ROWS)

    @property
    def backbone(self) -> str:
        """The name of its backbone."""
        return str(self.settings["backbone"])

    @property
    def flags(self) -> tuple[str, ...]:
        """Its settings as flags.

        >>> BOOK_ROWS[13].flags
        ('--backbone', 'gpt2', '--read', 'last', '--batch-size', '1')
        """
        words: list[str] = []
        for name, value in self.settings.items():
            words += [switch_of(name, value)] if isinstance(value, bool) else [flag_of(name), str(value)]
        return tuple(words)


def _row(number: int, change: str, script: str, test_percent: float, size: str = "", **settings: Any) -> BookRow:
    """A row on the GPT-2 of this size: "" is the small one, otherwise -medium, -large or -xl."""
    return BookRow(number, change, {"backbone": f"gpt2{size}", **settings}, script, test_percent)


def _lora(alpha: int) -> dict[str, Any]:
    """LoRA as in the script: on all linear layers of all blocks, scaled by alpha itself."""
    return {
        "train_blocks": "lora",
        "lora_blocks": "all",
        "lora_matrices": "all-linear",
        "lora_rank": 16,
        "lora_alpha": alpha,
        "lora_scale": "alpha",
    }


LORA = "--trainable_layers lora --lora_rank 16 --lora_alpha"
XL = '--model_size "gpt2-xl (1558M)"'

BOOK_ROWS = (
    _row(1, "nothing", "", 95.00),
    _row(2, "first token", "--trainable_token_pos first", 75.00, read="first"),
    _row(3, "head only", "--trainable_layers last_layer", 72.00, train_blocks="head"),
    _row(4, "last two blocks", "--trainable_layers last_two_blocks", 98.33, train_blocks="2"),
    _row(5, "all layers", "--trainable_layers all", 96.67, train_blocks="all"),
    _row(6, "medium", '--model_size "gpt2-medium (355M)"', 84.67, "-medium"),
    _row(7, "large", '--model_size "gpt2-large (774M)"', 96.67, "-large"),
    _row(8, "xl", XL, 98.33, "-xl"),
    _row(9, "xl, all layers", f"{XL} --trainable_layers all", 98.67, "-xl", train_blocks="all"),
    _row(
        10,
        "random weights",
        "--weights random --trainable_layers all",
        93.67,
        random_weights="book",
        train_blocks="all",
    ),
    _row(11, "LoRA", f"{LORA} 16", 96.67, **_lora(16)),
    _row(12, "LoRA, xl", f"{LORA} 8 {XL}", 98.33, "-xl", **_lora(8)),
    _row(13, "padded to 1,024", "--context_length model_context_length", 78.33, max_length=1024),
    _row(14, "no padding, batch 1", "--no_padding --batch_size 1", 98.00, read="last", batch_size=1),
    _row(
        15,
        "no padding, 8 accumulated",
        "--no_padding --batch_size 1 --accumulation_steps 8",
        98.33,
        read="last",
        batch_size=1,
        accumulate=8,
    ),
    _row(16, "last real token", "--trainable_token_pos flexible", 98.33, read="last"),
    _row(17, "no causal mask", "--disable_causal_mask", 95.33, causal_mask=False),
    _row(18, "`ignore_index`", "--ignore_index 50256", 95.00, ignore_index=50256),
    _row(19, "mean of all tokens", "--average_embeddings", 96.33, read="padded-mean"),
)
