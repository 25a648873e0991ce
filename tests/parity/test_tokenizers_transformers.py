"""Tokens of every family's kind of tokenizer against transformers', on fuzzed texts; spans, and decoding back.

benchmarks/tokens.py compares the tokens of 10,000 texts for each.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from parity.test_tiktoken import fuzzed_texts
from tokenizer_families import FAMILIES, Published, write_tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.classifier.classifier import ClassifierConfig
from lasttoken.export.hf_tokenizer import ExportedTokenizer

N_TEXTS = 500
CLASSES = {"qwen2": "Qwen2Tokenizer", "gemma3_text": "GemmaTokenizer", "qwen3": "Qwen2Tokenizer"}


def texts_for(published: Published, n: int = N_TEXTS) -> list[str]:
    """Fuzzed texts, and texts in which added tokens stand: alone, between words, beside each other."""
    tokens = [*published.special, *published.plain]
    return [
        *fuzzed_texts(n, seed=7),
        *(text for token in tokens for text in (token, f"a{token}b", f" {token} x{token}{token}\n")),
        "".join(tokens),
        "",
    ]


def as_in_file(folder: Path) -> Any:
    """transformers' tokenizer with the pipeline that the file has; special tokens in a text are text."""
    load: Any = PreTrainedTokenizerFast
    return load(tokenizer_file=str(folder / "tokenizer.json"), split_special_tokens=True)


@pytest.fixture(params=FAMILIES)
def published(request: pytest.FixtureRequest) -> Published:
    return FAMILIES[request.param]


@pytest.fixture
def folder(published: Published, tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path / "theirs", published)


@pytest.fixture
def ours(published: Published, folder: Path) -> Tokenizer:
    return Tokenizer.load(folder, json.loads((folder / "config.json").read_text("utf-8"))["eos_token_id"])


def test_tokens_are_those_of_transformers(published: Published, folder: Path, ours: Tokenizer) -> None:
    theirs = as_in_file(folder)
    texts = texts_for(published)
    found = ours.encode_many(texts)
    assert found == theirs(texts, add_special_tokens=False)["input_ids"]
    framed = [[*ours.prefix_ids, *ids, *ours.suffix_ids] for ids in found]
    assert framed == theirs(texts)["input_ids"]
    assert list(ours.prefix_ids) == theirs.convert_tokens_to_ids(list(published.before))
    assert list(ours.suffix_ids) == theirs.convert_tokens_to_ids(list(published.after))
    assert ours.end_of_text == published.ends_with


def test_no_text_has_a_special_token_and_other_added_tokens_are_found(published: Published, ours: Tokenizer) -> None:
    special = {ours._encoder.token_to_id(token) for token in published.special}
    texts = texts_for(published)
    assert not any(special & {*ids} for ids in ours.encode_many(texts))
    for token in published.plain:
        assert ours._encoder.token_to_id(token) in ours.encode(f"a{token}b")


def test_classes_of_transformers_that_build_the_pipeline_themselves_agree(
    published: Published, folder: Path, ours: Tokenizer
) -> None:
    """Theirs do not read normalizer and pre-tokenizer from the file, so this compares the components too."""
    name = CLASSES.get(published.model_type)
    if name is None:
        pytest.skip("transformers has no class for this family that builds the pipeline as the published file does")
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"tokenizer_class": name}), "utf-8")
    theirs = AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    assert type(theirs).__name__ == name
    texts = texts_for(published)
    assert ours.encode_many(texts) == theirs(texts, add_special_tokens=False)["input_ids"]


def test_spans_are_in_order_and_cover_the_text(published: Published, ours: Tokenizer) -> None:
    for text in texts_for(published):
        spans = ours.spans(text)
        assert len(spans) == len(ours.encode(text))
        assert all(0 <= start <= end <= len(text) for start, end in spans)
        assert spans == sorted(spans)
        covered = {place for start, end in spans for place in range(start, end)}
        missing = {text[place] for place in range(len(text)) if place not in covered}
        is_composed = published.normalizer == {"type": "NFC"}  # é of two characters: its span is the first one's
        assert is_composed or not missing


def test_decoding_gives_the_text_back_where_the_pipeline_keeps_it(published: Published, ours: Tokenizer) -> None:
    if published.normalizer == {"type": "NFC"}:
        pytest.skip("NFC changes texts")
    for text in texts_for(published):
        if published.is_byte_level or ("▁" not in text and not text.startswith(" ")):
            assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize("truncate", ["tail", "head"])
def test_an_export_has_our_tokens_in_transformers(
    published: Published, folder: Path, ours: Tokenizer, truncate: str
) -> None:
    assert ours.end_of_text_id is not None
    config = ClassifierConfig(
        labels=("a", "b"),
        read="last",
        causal_mask=True,
        max_length=30,
        truncate=truncate,
        train_blocks="1",
        end_of_text_id=ours.end_of_text_id,
        backbone="made",
        prefix_ids=ours.prefix_ids,
        suffix_ids=ours.suffix_ids,
    )
    exported = ExportedTokenizer(ours, config)
    for name, content in (("tokenizer", exported.content), ("tokenizer_config", exported.settings())):
        (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")
    theirs = AutoTokenizer.from_pretrained(folder)
    texts = texts_for(published)
    room = 30 - config.n_frame
    for ids, own in zip(theirs(texts, truncation=True)["input_ids"], ours.encode_many(texts), strict=True):
        kept = own[:room] if truncate == "tail" else own[len(own) - min(len(own), room) :]
        assert ids == [*ours.prefix_ids, *kept, *ours.suffix_ids]
    assert exported.pad_id not in config.suffix_ids
