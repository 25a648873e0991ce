"""The tokenizer's own promises; equality with tiktoken is in parity/."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from miniature import N_SMALL_TOKENS, framed_tokenizer, small_tokenizer, small_vocabulary
from tokenizers import Tokenizer as Encoder
from tokenizers import models

from lasttoken.backbone.tokenizer import END_OF_TEXT, Tokenizer
from lasttoken.core.errors import BackboneError

SMALL = small_tokenizer()


def reloaded(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), "utf-8")
    return Tokenizer.load(folder)


@pytest.mark.parametrize("text", [END_OF_TEXT, f"a{END_OF_TEXT}b", END_OF_TEXT * 3, f" {END_OF_TEXT}\n"])
def test_the_special_token_in_a_text_is_text_before_and_after_a_round_trip(text: str, tmp_path: Path) -> None:
    for tokenizer in (SMALL, reloaded(SMALL, tmp_path)):
        ids = tokenizer.encode(text)
        assert tokenizer.end_of_text_id == N_SMALL_TOKENS - 1
        assert tokenizer.end_of_text_id not in ids
        assert tokenizer.decode(ids) == text


def test_the_special_token_itself_decodes_to_its_name() -> None:
    assert SMALL.decode([N_SMALL_TOKENS - 1]) == END_OF_TEXT


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("\ud800", "\ufffd"),
        ("a\udfffb", "a\ufffdb"),
        ("\ud83d\ude00", "\ufffd\ufffd"),  # two halves of an emoji, as JSON's \\u escapes may leave them
        ("fine 😀", "fine 😀"),
    ],
    ids=["alone", "inside", "pair", "none"],
)
def test_a_lone_surrogate_becomes_the_replacement_character(text: str, read_as: str) -> None:
    assert SMALL.encode(text) == SMALL.encode(read_as)
    assert SMALL.decode(SMALL.encode(text)) == read_as


@given(st.lists(st.text(max_size=20), max_size=6))
def test_many_texts_are_encoded_as_single_texts_and_decode_to_themselves(texts: list[str]) -> None:
    found = SMALL.encode_many(texts)
    assert found == [SMALL.encode(text) for text in texts]
    assert [SMALL.decode(ids) for ids in found] == texts
    assert [not ids for ids in found] == [not text for text in texts]


def test_invalid_bytes_decode_to_the_replacement_character() -> None:
    ids = SMALL.encode("é")
    assert len(ids) == 2
    assert SMALL.decode(ids[:1]) == "\ufffd"


def test_padding_and_cutting_that_a_tokenizer_file_asks_for_are_switched_off(tmp_path: Path) -> None:
    encoder = Encoder.from_str(SMALL.to_json())
    encoder.enable_truncation(2)
    encoder.enable_padding(length=40)
    encoder.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).encode_many(["see you", "at"]) == SMALL.encode_many(["see you", "at"])


def test_a_round_trip_through_its_json_changes_nothing(tmp_path: Path) -> None:
    again = reloaded(SMALL, tmp_path)
    assert again.to_json() == SMALL.to_json()
    assert (again.n_tokens, again.end_of_text_id) == (SMALL.n_tokens, SMALL.end_of_text_id)
    assert again.decode(SMALL.encode("in the end")) == "in the end"


def test_a_rule_that_begins_with_a_hash_sign_is_a_rule(tmp_path: Path) -> None:
    vocab = {token: token_id for token_id, token in enumerate([*small_vocabulary(), "##", "# #"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), "utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n# #\n", "utf-8")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode("##") == [vocab["##"]]


@pytest.mark.parametrize(
    ("vocab", "merges"),
    [
        ("{", "#version: 0.2\n"),
        ("[1]", "#version: 0.2\n"),
        ('{"a": 0}', "#version: 0.2\nx y\n"),  # a rule about tokens that are not there
        ('{"a": 0}', "oneword\n"),
        ('{"a": "b"}', ""),
    ],
    ids=["torn", "list", "foreign-rules", "one-word-rule", "no-ids"],
)
def test_a_broken_pair_is_named(vocab: str, merges: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(vocab, "utf-8")
    (tmp_path / "merges.txt").write_text(merges, "utf-8")
    with pytest.raises(
        BackboneError, match=rf"^{tmp_path / 'vocab.json'} cannot be read as a tokenizer: .*; fetch it again$"
    ):
        Tokenizer.load(tmp_path)


def test_a_whole_tokenizer_file_is_taken_before_a_pair(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{", "utf-8")
    (tmp_path / "merges.txt").write_text("", "utf-8")
    assert reloaded(SMALL, tmp_path).n_tokens == N_SMALL_TOKENS


@pytest.mark.parametrize("vocab_size", [0, 1, N_SMALL_TOKENS - 1, N_SMALL_TOKENS + 128, 50257])
def test_a_tokenizer_of_another_size_is_rejected_with_both_sizes(vocab_size: int) -> None:
    with pytest.raises(BackboneError, match=rf"in somewhere has 261 tokens, but the weights embed {vocab_size:,};"):
        SMALL.check_fits(vocab_size, Path("somewhere"))


@pytest.mark.parametrize("vocab_size", [N_SMALL_TOKENS, N_SMALL_TOKENS + 3, N_SMALL_TOKENS + 127])
def test_a_few_unused_rows_of_the_embedding_are_accepted(vocab_size: int) -> None:
    SMALL.check_fits(vocab_size, Path("somewhere"))


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def test_merges_that_build_the_special_token_are_rejected(tmp_path: Path) -> None:
    vocab = small_vocabulary()
    parts = list(END_OF_TEXT)
    merges = []
    while len(parts) > 1:
        merges.append([parts[0], parts[1]])
        parts = [parts[0] + parts[1], *parts[2:]]
        vocab.setdefault(parts[0], len(vocab))
    content = json.loads(SMALL.to_json())
    content["model"] |= {"vocab": vocab, "merges": merges}
    content["pre_tokenizer"] = BYTES
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(BackboneError, match=r"tokenizer\.json turns the text '<\|endoftext\|>'"):
        Tokenizer.load(tmp_path)


def test_a_panic_of_the_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class PanicError(BaseException):
        """As pyo3's PanicException: not an Exception."""

    def panic(content: str) -> Encoder:
        raise PanicError("called `Option::unwrap()` on a `None` value")

    (tmp_path / "tokenizer.json").write_text(SMALL.to_json(), "utf-8")
    monkeypatch.setattr("lasttoken.backbone.tokenizer.Encoder.from_str", panic)
    with pytest.raises(BackboneError, match=r"tokenizer\.json cannot be read as a tokenizer: called"):
        Tokenizer.load(tmp_path)


def test_an_id_beyond_the_embedding_is_named(tmp_path: Path) -> None:
    vocab = {**small_vocabulary(), "zz": 5000}
    del vocab["Ġthe"]
    content = json.loads(SMALL.to_json())
    content["model"] |= {"vocab": vocab, "merges": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(BackboneError, match=r"has the id 5,000, but the weights embed 261"):
        Tokenizer.load(tmp_path).check_fits(N_SMALL_TOKENS, tmp_path)


def test_a_large_embedding_may_have_more_unused_rows() -> None:
    """Qwen 2.5 7B has 152,064 rows for 151,665 tokens."""
    vocab = small_vocabulary()
    vocab |= {f"t{token_id}": token_id for token_id in range(len(vocab), 151_665)}
    tokenizer = Tokenizer(Encoder(models.BPE(vocab=vocab, merges=[])))
    tokenizer.check_fits(152_064, Path("somewhere"))
    with pytest.raises(BackboneError, match="151,665 tokens, but the weights embed 152,700"):
        tokenizer.check_fits(152_700, Path("somewhere"))


def test_a_special_token_that_no_text_has_needs_no_row() -> None:
    """Gemma 3's tokenizer has one for images beyond the rows of the models that read only text."""
    framed_tokenizer((), ()).check_fits(N_SMALL_TOKENS, Path("somewhere"))
    for frame in ((("<|start|>",), ()), ((), ("<|end|>",))):
        with pytest.raises(BackboneError, match="somewhere has 263 tokens"):
            framed_tokenizer(*frame).check_fits(N_SMALL_TOKENS, Path("somewhere"))
