"""The table of the GPT, the n-grams and their sum."""

from __future__ import annotations

from typing import Any

from lasttoken.report.ngrams import ngram_table

VALUES = {"accuracy": 0.9, "loss": 0.3}
RECORD: dict[str, Any] = {
    "kept": True,
    "kind": "characters",
    "weight": 0.35,
    "held_out": "validation",
    "n": 1234,
    "gpt": VALUES,
    "loss_fall": 0.0213,
    "standard_error": 0.0042,
    "in_words": "GPT and character n-grams, weights 0.65 : 0.35",
    "candidates": [
        {"kind": kind, "weight": 0.35, "ngrams": VALUES, "together": {**VALUES, "loss": 0.2}}
        for kind in ("words", "characters")
    ],
}


def test_each_candidate_has_a_row_of_its_own_and_one_of_the_sum() -> None:
    table = ngram_table(RECORD)
    assert table is not None
    assert [row[0] for row in table.rows] == [
        "GPT",
        "word n-grams",
        "GPT and word n-grams, 0.65 : 0.35",
        "character n-grams",
        "GPT and character n-grams, 0.65 : 0.35",
    ]
    assert table.rows[2][1:] == ("90.00%", "0.200")
    for part in (RECORD["in_words"], "1,234", "0.0213", "0.0042"):
        assert part in table.sentence


def test_n_grams_that_were_not_kept_are_told_and_none_have_no_table() -> None:
    table = ngram_table({**RECORD, "kept": False})
    assert table is not None
    assert "alone" in table.sentence
    assert ngram_table(None) is None
    assert ngram_table({"kept": False, "reason": "too few rows"}) is None
