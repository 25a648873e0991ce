"""Tokenizers of GGUF files: tokens as the tokenizer.json files have them from which `pre` got its names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf_files import tokenizer_keys, write_gguf
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import random_gpt, small_tokenizer
from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Encoder
from transformers import PreTrainedTokenizerFast

from lasttoken.backbone.gguf.file import GGUFFile
from lasttoken.backbone.gguf.tokenizer import PRES, read_tokenizer
from lasttoken.backbone.tokenizer import END_OF_TEXT, Tokenizer
from lasttoken.backbone.tokenizer_pipeline import check_pipeline
from lasttoken.core.errors import BackboneError

DIGIT_MERGES = ["0 8", "08 0", "1 2", "Ġ 0", "Ġ t", "t h", "th e", "Ġ the", "' s", "a b"]


def opened(folder: Path, **keys: Any) -> GGUFFile:
    """A GGUF whose tokenizer has these keys."""
    named = {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
    return GGUFFile(write_gguf(folder / "small.gguf", random_gpt(n_layer=1), keys=named))


def with_digits(folder: Path, pre: str) -> Tokenizer:
    """A tokenizer with merges of digits, so that the way of splitting shows."""
    tokens = [*tokenizer_keys()["tokenizer.ggml.tokens"][:256]]
    tokens += [merge.replace(" ", "") for merge in DIGIT_MERGES] + [END_OF_TEXT]
    types = [1] * (len(tokens) - 1) + [3]
    ids = {"eos_token_id": len(tokens) - 1, "bos_token_id": len(tokens) - 1}
    return read_tokenizer(
        opened(folder, pre=pre, tokens=tokens, merges=DIGIT_MERGES, token_type=types, **ids), END_OF_TEXT
    )


def words(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.decode([token_id]) for token_id in tokenizer.encode(text)]


def test_the_small_tokenizer_comes_back(tmp_path: Path) -> None:
    tokenizer = read_tokenizer(opened(tmp_path), END_OF_TEXT)
    assert json.loads(tokenizer.to_json()) == json.loads(small_tokenizer().to_json())
    assert (tokenizer.prefix_ids, tokenizer.suffix_ids) == ((), ())


@pytest.mark.parametrize("pre", sorted(PRES))
def test_every_pipeline_is_one_that_a_saved_run_may_have(tmp_path: Path, pre: str) -> None:
    tokenizer = with_digits(tmp_path, pre)
    check_pipeline(json.loads(tokenizer.to_json()), tmp_path)
    text = f"The 0800\tnumber's  'S {END_OF_TEXT} über 123456 café\n\n x ١٢"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.end_of_text_id not in tokenizer.encode(text)


@pytest.mark.parametrize("pre", ["smollm", "starcoder", "refact", "command-r"])
def test_digits_are_single(tmp_path: Path, pre: str) -> None:
    tokenizer = with_digits(tmp_path, pre)
    assert words(tokenizer, "Call 0800") == [*"Call", " ", "0", "8", "0", "0"]
    assert words(tokenizer, "the 12") == ["the", " ", "1", "2"]


def test_gpt2_joins_digits_and_llama_takes_three(tmp_path: Path) -> None:
    assert words(with_digits(tmp_path, "gpt-2"), "0800") == ["080", "0"]
    assert words(with_digits(tmp_path, "llama-bpe"), "0800") == ["080", "0"]
    assert words(with_digits(tmp_path, "llama-bpe"), "0012") == ["0", "0", "1", "2"]
    assert words(with_digits(tmp_path, "gpt-2"), "0012") == ["0", "0", "12"]
    assert words(with_digits(tmp_path, "qwen2"), "0800") == ["0", "8", "0", "0"]


@pytest.fixture(scope="module")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return with_digits(tmp_path_factory.mktemp("smollm"), "smollm")


@pytest.fixture(scope="module")
def theirs(smollm: Tokenizer) -> Encoder:
    """llama.cpp's patterns for smollm: each cuts the pieces that the one before left."""
    vocab = json.loads(smollm.to_json())["model"]["vocab"]
    encoder = Encoder(models.BPE(vocab=vocab, merges=[tuple(merge.split(" ")) for merge in DIGIT_MERGES]))  # type: ignore[misc]
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
    splits = [pre_tokenizers.Split(Regex(part), "isolated") for part in (r"\p{N}", pattern)]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoder.pre_tokenizer = pre_tokenizers.Sequence([*splits, to_bytes])
    return encoder


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("ab thé '’sS0189١½²\n\t\r .,-_<|>🙂\u00a0\u3000漢")))
def test_smollm_splits_by_llama_cpps_patterns(smollm: Tokenizer, theirs: Encoder, text: str) -> None:
    assert smollm.encode(text) == theirs.encode(text, add_special_tokens=False).ids


def test_start_and_end_tokens(tmp_path: Path) -> None:
    last = len(tokenizer_keys()["tokenizer.ggml.tokens"]) - 1
    tokenizer = read_tokenizer(opened(tmp_path, add_bos_token=True, add_eos_token=True, bos_token_id=7), END_OF_TEXT)
    assert (tokenizer.prefix_ids, tokenizer.suffix_ids) == ((7,), (last,))
    tokenizer = read_tokenizer(opened(tmp_path, pre="llama-bpe"), END_OF_TEXT)
    assert tokenizer.prefix_ids == (last,), "Llama 3's files from before the key add a start token"
    tokenizer = read_tokenizer(opened(tmp_path, pre="llama-bpe", add_bos_token=False), last)
    assert tokenizer.prefix_ids == ()
    assert tokenizer.end_of_text == END_OF_TEXT


def test_user_defined_tokens_are_cut_out_of_texts_and_control_tokens_are_not(tmp_path: Path) -> None:
    tokens = [*tokenizer_keys()["tokenizer.ggml.tokens"], "<think>", "<|start|>"]
    types = [1] * (len(tokens) - 3) + [3, 4, 3]
    tokenizer = read_tokenizer(opened(tmp_path, tokens=tokens, token_type=types), END_OF_TEXT)
    text = "a<think>b<|start|>"
    ids = tokenizer.encode(text)
    assert len(tokens) - 2 in ids
    assert len(tokens) - 1 not in ids
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json())
    load: Any = PreTrainedTokenizerFast
    theirs = load(tokenizer_file=str(tmp_path / "tokenizer.json"), split_special_tokens=True)
    assert ids == theirs.encode(text, add_special_tokens=False)
    assert ids == Tokenizer.load(tmp_path).encode(text), "a tokenizer.json is read in the same way"


def test_a_tokenizer_json_beside_the_file_is_preferred(tmp_path: Path) -> None:
    file = opened(tmp_path, model="llama", pre=None, merges=None)
    with pytest.raises(BackboneError, match=r"'llama'.*tokenizer\.json"):
        read_tokenizer(file, END_OF_TEXT)
    (tmp_path / "tokenizer.json").write_text(small_tokenizer().to_json())
    tokenizer = read_tokenizer(file, END_OF_TEXT)
    assert tokenizer.encode("the thin") == small_tokenizer().encode("the thin")


def test_without_a_name_gpt2_splits_as_gpt2_did(tmp_path: Path) -> None:
    tokenizer = read_tokenizer(opened(tmp_path, pre=None), END_OF_TEXT)
    assert tokenizer.to_json() == small_tokenizer().to_json()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"pre": "another-one"}, "another-one"),
        ({"tokens": None}, "no tokenizer"),
        ({"model": None}, r"tokenizer\.ggml\.model"),
        ({"merges": None}, r"tokenizer\.ggml\.merges"),
        ({"merges": ["t h", "t q"]}, "'t q'"),
        ({"merges": ["t h", "the"]}, "'the'"),
        ({"tokens": ["a", "b"]}, "bytes have no token"),
        ({"token_type": [1, 1]}, "types of 2"),
        ({"add_bos_token": True, "bos_token_id": 10_000}, r"10,000"),
        ({"add_eos_token": True, "eos_token_id": None}, "eos_token_id"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(BackboneError, match=words):
        read_tokenizer(opened(tmp_path, **keys), END_OF_TEXT)


@pytest.mark.parametrize("ending", ["<|other|>", 10_000])
def test_an_end_token_that_the_file_does_not_have_is_named(tmp_path: Path, ending: str | int) -> None:
    with pytest.raises(BackboneError, match=r"other|10000"):
        read_tokenizer(opened(tmp_path), ending)
