"""The chapter's table as data: every row is there once, and its counts and flags are what docs/book.md shows."""

from __future__ import annotations

import re
import shlex

import pytest

from lasttoken.core.book_rows import BOOK_ROWS, TEST_ROWS, BookRow

OPTIONS = {  # of the book's script, each with the settings that it becomes
    "--model_size": "backbone",
    "--trainable_token_pos": "read",
    "--trainable_layers": "train_blocks",
    "--weights": "random_weights",
    "--lora_rank": "lora_rank",
    "--lora_alpha": "lora_alpha",
    "--context_length": "max_length",
    "--no_padding": "read",
    "--batch_size": "batch_size",
    "--accumulation_steps": "accumulate",
    "--disable_causal_mask": "causal_mask",
    "--ignore_index": "ignore_index",
    "--average_embeddings": "read",
}


def test_the_rows_are_numbered() -> None:
    assert [row.number for row in BOOK_ROWS] == list(range(1, 20))
    assert len({tuple(row.settings.items()) for row in BOOK_ROWS}) == len(BOOK_ROWS)


@pytest.mark.parametrize("row", BOOK_ROWS, ids=lambda row: f"row {row.number}")
def test_a_row_says_what_its_script_options_say(row: BookRow) -> None:
    assert f"{100 * row.n_correct / TEST_ROWS:.2f}" == f"{row.test_percent:.2f}"
    named = {OPTIONS[option] for option in re.findall(r"--\w+", row.script)}
    extra = {"lora_blocks", "lora_matrices", "lora_scale"} if "lora" in row.script else set()
    assert set(row.settings) == {"backbone", *named, *extra}
    assert shlex.split(shlex.join(row.flags)) == list(row.flags)
