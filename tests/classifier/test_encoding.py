"""Batches by length: every row once, within the budget, and of about as many tokens each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from miniature import N_SMALL_TOKENS, framed_tokenizer, random_encoded, small_tokenizer

from lasttoken.classifier.encoding import Encoded, batches_by_length, encode_texts, tokens_per_character

END_OF_TEXT, START, END = N_SMALL_TOKENS - 1, N_SMALL_TOKENS, N_SMALL_TOKENS + 1


@given(st.lists(st.integers(1, 600), max_size=200), st.integers(1, 600))
def test_every_row_once_within_the_budget_or_alone(lengths: list[int], budget: int) -> None:
    batches = batches_by_length(np.array(lengths, dtype=np.int64), budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(sum(lengths[row] for row in batch) <= budget or len(batch) == 1 for batch in batches)
    found = [lengths[row] for batch in batches for row in batch]
    assert found == sorted(lengths, reverse=True)


@pytest.mark.parametrize("n_rows", range(3_000, 3_040))
def test_no_batch_is_small_where_texts_are_short(n_rows: int) -> None:
    lengths = np.random.default_rng(n_rows).integers(1, 30, n_rows)
    sizes = [int(lengths[batch].sum()) for batch in batches_by_length(lengths, 512)]
    assert min(sizes) > 450
    assert len(sizes) <= 1.03 * lengths.sum() / 512 + 1


def test_offsets_are_computed_once_and_select_the_tokens_of_rows() -> None:
    encoded = random_encoded(20)
    assert encoded.offsets is encoded.offsets
    by_hand = [
        token for row in (3, 0, 7) for token in encoded.token_ids[encoded.offsets[row] : encoded.offsets[row + 1]]
    ]
    assert encoded.ids_of([3, 0, 7]).tolist() == by_hand


@pytest.mark.parametrize("truncate", ["tail", "head"])
@given(texts=st.lists(st.text("abc the", max_size=9), max_size=5), max_length=st.integers(3, 8), pad=st.booleans())
def test_a_long_text_loses_its_own_tokens_and_never_the_frame(
    truncate: str, texts: list[str], max_length: int, pad: bool
) -> None:
    encoded = encode_texts(
        framed_tokenizer(),
        texts,
        max_length=max_length,
        truncate=truncate,
        end_of_text_id=END_OF_TEXT,
        prefix_ids=(START,),
        suffix_ids=(END,),
        pad=pad,
    )
    n_lost = 0
    for row, text in enumerate(texts):
        own = small_tokenizer().encode(text)
        kept = own[: max_length - 2] if truncate == "tail" else own[-(max_length - 2) :]
        padding = [END_OF_TEXT] * (max_length - 2 - len(kept)) if pad else []
        assert encoded.ids_of([row]).tolist() == [START, *kept, END, *padding]
        assert encoded.cut[row] == (len(own) > len(kept))
        n_lost += len(own) - len(kept)
    assert encoded.n_cut_tokens == n_lost


def framed(texts: list[str], prefix_ids: tuple[int, ...] = (), suffix_ids: tuple[int, ...] = ()) -> Encoded:
    return encode_texts(
        small_tokenizer(),
        texts,
        max_length=None,
        truncate="tail",
        end_of_text_id=END_OF_TEXT,
        prefix_ids=prefix_ids,
        suffix_ids=suffix_ids,
    )


def test_an_empty_text_is_the_frame_alone_or_the_token_that_ends_texts() -> None:
    assert framed([""]).token_ids.tolist() == [END_OF_TEXT]
    assert framed([""], prefix_ids=(START,)).token_ids.tolist() == [START]
    assert framed([""], suffix_ids=(END,)).token_ids.tolist() == [END]


def test_the_frame_does_not_count_as_tokens_of_the_texts_characters() -> None:
    texts = ["ab", "abcd"]
    assert tokens_per_character(framed(texts), texts) == 1.0
    assert tokens_per_character(framed(texts, (START, START)), texts) == 1.0
