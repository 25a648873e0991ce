"""The tokenizer's own promises; equality with tiktoken is in parity/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from miniature import N_SMALL_TOKENS, small_tokenizer, small_vocabulary
from tokenizers import Tokenizer as Encoder

from lasttoken.backbone.tokenizer import END_OF_TEXT, Tokenizer
from lasttoken.backbone.tokenizer_pipeline import SPLITS
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
def test_many_texts_are_encoded_as_one_by_one_and_come_back(texts: list[str]) -> None:
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


def changed(folder: Path, *path: str, value: Any) -> Path:
    """A tokenizer.json with one value replaced."""
    content = json.loads(SMALL.to_json())
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    return folder


def sequence(kind: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", kind: list(parts)}


DOUBLE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
LLAMA_3 = SPLITS[1]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("normalizer", sequence("normalizers", *[DOUBLE] * 34), "normalizer"),
        ("normalizer", DOUBLE, "normalizer"),
        ("normalizer", {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}, "normalizer"),
        ("normalizer", {"type": "Replace", "pattern": {"String": ""}, "content": ""}, "normalizer"),
        ("normalizer", {"type": "Prepend", "prepend": "x" * 10**6}, "normalizer"),
        ("normalizer", sequence("normalizers", *[{"type": "Prepend", "prepend": "x"}] * 1000), "normalizer"),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "normalizer"),
        ("normalizer", {"type": "Lowercase"}, "normalizer"),
        ("normalizer", {"type": "Surprise"}, "normalizer"),
        ("normalizer", 5, "normalizer"),
        ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(?=(a"}, "behavior": "Isolated"}, "pre_tokenizer"),
        ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(a|a)*b"}, "behavior": "Isolated"}, "pre_tokenizer"),
        ("pre_tokenizer", sequence("pretokenizers", *[BYTES] * 8), "pre_tokenizer"),
        ("pre_tokenizer", {"type": "BertPreTokenizer"}, "pre_tokenizer"),
        ("decoder", sequence("decoders", *[DOUBLE] * 8), "decoder"),
        ("pre_tokenizer", None, "pre_tokenizer"),
        ("decoder", {"type": "CTC"}, "decoder"),
        ("post_processor", {"type": "BertProcessing", "sep": ["a", 1], "cls": ["a", 1]}, "post_processor"),
        ("model.dropout", 0.5, "model.dropout"),
        ("model.type", "Unigram", "model.type"),
        ("model.type", "WordLevel", "model.type"),
        ("model.end_of_word_suffix", "x" * 10**6, "model.end_of_word_suffix"),
        ("model.vocab", {"a": "0"}, "'a'"),
        ("model.vocab", {"a": -1}, "'a'"),
        ("model.vocab", {"a": 0, "b": 0}, "same id"),
        ("model.vocab", {token: at for token, at in small_vocabulary().items() if token != "q"}, "'q'"),
        ("model.vocab", [["a", 0.5]], "vocab"),
        ("model.merges", {"a": 1}, "merges"),
        ("model.merges", [["nowhere", "to"]], "tokenizer"),
        ("model", None, "model"),
        ("added_tokens", [{"id": 7, "content": END_OF_TEXT, **ADDED}], END_OF_TEXT),
        ("added_tokens", [{"id": N_SMALL_TOKENS - 1, "content": "", **ADDED}], "added_tokens.0.content"),
        ("added_tokens", [{"id": -1, "content": "x", **ADDED}], "added_tokens.0.id"),
        ("added_tokens", [{"id": N_SMALL_TOKENS - 1, "content": END_OF_TEXT, **ADDED, "special": False}], END_OF_TEXT),
        ("added_tokens", 1, "added_tokens"),
        ("wings", 2, "wings"),
    ],
)
def test_an_unknown_part_of_a_tokenizer_file_is_named(path: str, value: Any, named: str, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"tokenizer\.json") as caught:
        Tokenizer.load(changed(tmp_path, *path.split("."), value=value))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


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


SPACE = {"String": " "}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama 3": {
        "pre_tokenizer": sequence(
            "pretokenizers",
            {"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Isolated", "invert": False},
            BYTES,
        ),
        "post_processor": sequence(
            "processors",
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
            {
                "type": "TemplateProcessing",
                "single": [{"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {},
            },
        ),
    },
    "qwen": {
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": sequence(
            "pretokenizers",
            {"type": "Split", "pattern": {"Regex": SPLITS[2]}, "behavior": "Isolated", "invert": False},
            BYTES,
        ),
    },
    "smollm2": {
        "pre_tokenizer": sequence(
            "pretokenizers", {"type": "Digits", "individual_digits": True}, {**BYTES, "use_regex": True}
        )
    },
    "gemma": {
        "normalizer": {"type": "Replace", "pattern": SPACE, "content": "▁"},
        "pre_tokenizer": {"type": "Split", "pattern": SPACE, "behavior": "MergedWithPrevious", "invert": False},
        "decoder": sequence(
            "decoders",
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ),
    },
    "llama 2": {
        "normalizer": sequence(
            "normalizers",
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": SPACE, "content": "▁"},
        ),
        "pre_tokenizer": None,
        "decoder": sequence(
            "decoders",
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ),
    },
}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_parts_of_published_families_are_accepted_and_bounded(family: str, tmp_path: Path) -> None:
    content = {**json.loads(SMALL.to_json()), **FAMILIES[family]}
    content["model"]["byte_fallback"] = family in ("gemma", "llama 2")
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    tokenizer = Tokenizer.load(tmp_path)
    for text in ("a" * 1000, " " * 1000, "\u0958" * 1000, "👩‍👧" * 100, "see you at 12345 then\r\n"):
        assert len(tokenizer.encode(text)) <= 12 * len(text) + 64


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
