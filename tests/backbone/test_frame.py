"""The tokens that a tokenizer puts around a text: found, bounded, and written into another tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from miniature import N_SMALL_TOKENS, framed_tokenizer, small_tokenizer
from tokenizers import Tokenizer as Encoder

from lasttoken.backbone.frame import frame_of, framed_post_processor
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.core.errors import BackboneError

START, END = N_SMALL_TOKENS, N_SMALL_TOKENS + 1
FRAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "start": (("<|start|>",), ()),
    "end": ((), ("<|end|>",)),
    "both": (("<|start|>",), ("<|end|>",)),
    "several": (("<|start|>", "<|end|>"), ("<|end|>", "<|end|>")),
}
IDS = {"<|start|>": START, "<|end|>": END}
BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}


@pytest.mark.parametrize(("before", "after"), FRAMES.values(), ids=FRAMES)
def test_the_frame_is_found_and_kept_out_of_encode(before: Sequence[str], after: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(framed_tokenizer(before, after).to_json(), "utf-8")
    for tokenizer in (framed_tokenizer(before, after), Tokenizer.load(tmp_path)):
        assert tokenizer.prefix_ids == tuple(IDS[token] for token in before)
        assert tokenizer.suffix_ids == tuple(IDS[token] for token in after)
        assert tokenizer.n_frame == len(before) + len(after)
        assert tokenizer.encode("in the end") == small_tokenizer().encode("in the end")
        assert tokenizer.spans("the") == small_tokenizer().spans("the")


def test_most_tokenizers_have_no_frame() -> None:
    assert (small_tokenizer().prefix_ids, small_tokenizer().suffix_ids) == ((), ())


@pytest.mark.parametrize("text", ["<|start|>", "a<|start|>b<|end|>", "<|end|><|end|>"])
def test_a_token_of_the_frame_in_a_text_is_text(text: str) -> None:
    tokenizer = framed_tokenizer(("<|start|>",), ("<|end|>",))
    ids = tokenizer.encode(text)
    assert not {START, END} & {*ids}
    assert tokenizer.decode(ids) == text


def template(*pieces: str) -> dict[str, Any]:
    def piece(name: str) -> dict[str, Any]:
        kind = "Sequence" if name in "AB" else "SpecialToken"
        return {kind: {"id": name, "type_id": 0}}

    special = {name: {"id": name, "ids": [IDS[name]], "tokens": [name]} for name in {*pieces} - {"A", "B"}}
    return {"type": "TemplateProcessing", "single": list(map(piece, pieces)), "pair": [], "special_tokens": special}


MANY = {"id": "<|end|>", "tokens": ["<|end|>"] * 17}


@pytest.mark.parametrize(
    "post_processor",
    [
        template("A", "A"),
        template("<|start|>"),
        template("A", *["<|end|>"] * 17),
        {"type": "Sequence", "processors": [template("A", "A")] * 8},
        {"type": "Sequence", "processors": [template("A", "<|end|>")] * 2},
        template("A", "<|end|>") | {"special_tokens": {"<|end|>": {**MANY, "ids": [END] * 17}}},
        {"type": "BertProcessing", "sep": ["<|end|>", END], "cls": ["<|start|>", START]},
    ],
    ids=["twice", "never", "long", "doubling", "two-templates", "many-in-one", "another-kind"],
)
def test_a_post_processor_that_does_more_is_refused(post_processor: dict[str, Any], tmp_path: Path) -> None:
    content = json.loads(framed_tokenizer().to_json()) | {"post_processor": post_processor}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(BackboneError, match=r"tokenizer\.json: post_processor") as caught:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=20))
@pytest.mark.parametrize("old", [None, BYTES, template("<|end|>", "A")], ids=["none", "bytes", "template"])
@pytest.mark.parametrize(("before", "after"), [*FRAMES.values(), ((), ())], ids=[*FRAMES, "none"])
def test_a_post_processor_is_written_that_adds_the_frame(
    before: Sequence[str], after: Sequence[str], old: dict[str, Any] | None, text: str
) -> None:
    ids = tuple(IDS[token] for token in before), tuple(IDS[token] for token in after)
    content = json.loads(framed_tokenizer().to_json())
    content["post_processor"] = framed_post_processor(old, ids, [*before, *after])
    encoder = Encoder.from_str(json.dumps(content))
    encoder.encode_special_tokens = True
    assert frame_of(encoder, "it") == ids
    assert encoder.encode(text).ids == [*ids[0], *small_tokenizer().encode(text), *ids[1]]
