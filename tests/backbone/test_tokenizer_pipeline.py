"""tokenizer.json files of published families are accepted; a part that is not listed is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from miniature import N_SMALL_TOKENS, small_tokenizer, small_vocabulary
from tokenizer_families import FAMILIES, tokenizer_json, write_tokenizer

from lasttoken.backbone.tokenizer import END_OF_TEXT, Tokenizer
from lasttoken.backbone.tokenizer_pipeline import SPLITS
from lasttoken.core.errors import BackboneError

SMALL = small_tokenizer()


def reloaded(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), "utf-8")
    return Tokenizer.load(folder)


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
        ("model.type", "WordPiece", "model.type"),
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


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_parts_of_published_families_are_accepted_and_bounded(family: str, tmp_path: Path) -> None:
    published = FAMILIES[family]
    tokenizer = Tokenizer.load(write_tokenizer(tmp_path, published), published.ends_with)
    for text in ("a" * 1000, " " * 1000, "\u0958" * 1000, "👩‍👧" * 100, "see you at 12345 then\r\n"):
        assert len(tokenizer.encode(text)) <= 12 * len(text) + 64


@pytest.mark.parametrize(
    ("pre_tokenizer", "is_safe"),
    [
        ({"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": False}, False),
        ({"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": True}, False),
        ({"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Removed", "invert": False}, False),
        ({"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Removed", "invert": True}, True),
        ({"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Lost", "invert": True}, False),
    ],
)
def test_a_split_that_would_remove_characters_is_refused(
    pre_tokenizer: dict[str, Any], is_safe: bool, tmp_path: Path
) -> None:
    folder = changed(tmp_path, "pre_tokenizer", value=sequence("pretokenizers", pre_tokenizer, BYTES))
    if is_safe:
        assert Tokenizer.load(folder).encode("a  b\r\n ½") == SMALL.encode("a  b\r\n ½")
    else:
        with pytest.raises(BackboneError, match="pre_tokenizer"):
            Tokenizer.load(folder)


@pytest.mark.parametrize("missing", ["<0x0A>", "<0xFF>"])
def test_a_fallback_to_bytes_needs_all_of_them(missing: str, tmp_path: Path) -> None:
    published = FAMILIES["llama2"]
    content = tokenizer_json(published)
    content["model"]["unk_token"] = None
    del content["model"]["vocab"][missing]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(BackboneError, match=r"tokenizer\.json: .*byte_fallback"):
        Tokenizer.load(tmp_path, published.ends_with)
