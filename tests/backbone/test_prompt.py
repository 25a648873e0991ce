"""The token ids of a prompt: those that transformers gives its parts, whatever the text between them is."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniature import N_SMALL_TOKENS, framed_tokenizer, random_gpt, write_backbone
from transformers import PreTrainedTokenizerFast

from lasttoken.backbone.frame import MAX_FRAME
from lasttoken.backbone.pretrained import Backbone, load_backbone
from lasttoken.backbone.prompt import MAX_PROMPT, frame_with_prompt
from lasttoken.core.errors import SettingsError
from lasttoken.core.prompt import parts_of

START, END = N_SMALL_TOKENS, N_SMALL_TOKENS + 1
TEMPLATE = "<|end|>user\nIn the <|end|>, what is this? {text}<|start|>\n<|strange|>It is"


@pytest.fixture
def backbone(tmp_path: Path) -> Backbone:
    """A backbone whose tokenizer puts a start token before every text and an end token behind it."""
    tokenizer = framed_tokenizer(("<|start|>",), ("<|end|>",))
    gpt = random_gpt(n_positions=64, vocab_size=tokenizer.n_tokens)
    return load_backbone(str(write_backbone(tmp_path / "backbone", gpt, tokenizer=tokenizer)))


def test_the_parts_have_the_tokens_that_transformers_gives_them(backbone: Backbone, tmp_path: Path) -> None:
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "backbone" / "tokenizer.json"))  # type: ignore[no-untyped-call]
    before, behind = theirs(list(parts_of(TEMPLATE)), add_special_tokens=False)["input_ids"]
    assert before.count(END) == 2
    assert behind[0] == START
    assert frame_with_prompt(backbone, TEMPLATE) == ((START, *before), (*behind, END))
    assert len(before) + len(behind) > MAX_FRAME


def test_a_token_that_the_tokenizer_does_not_know_is_text(backbone: Backbone) -> None:
    _, suffix_ids = frame_with_prompt(backbone, "{text}<|strange|>")
    assert suffix_ids == (*backbone.tokenizer.encode("<|strange|>"), END)


def test_a_user_s_text_has_no_special_tokens_beside_such_a_prompt(backbone: Backbone) -> None:
    frame_with_prompt(backbone, TEMPLATE)
    assert not {START, END} & {*backbone.tokenizer.encode("<|start|> and <|end|>")}


def test_without_a_prompt_there_is_the_model_s_own_frame(backbone: Backbone) -> None:
    assert frame_with_prompt(backbone, None) == frame_with_prompt(backbone, "{text}") == ((START,), (END,))


def test_a_prompt_has_a_limit(backbone: Backbone) -> None:
    frame_with_prompt(backbone, "{text}" + "\t" * MAX_PROMPT)
    with pytest.raises(SettingsError, match=f"--prompt has {MAX_PROMPT + 1} tokens .* {MAX_PROMPT}"):
        frame_with_prompt(backbone, "{text}" + "\t" * (MAX_PROMPT + 1))


def test_a_special_token_without_an_embedding_is_rejected(tmp_path: Path) -> None:
    """Gemma 3's tokenizer has one for images, which its text model does not embed."""
    tokenizer, gpt = framed_tokenizer((), ()), random_gpt(vocab_size=N_SMALL_TOKENS + 1)
    backbone = load_backbone(str(write_backbone(tmp_path / "small", gpt, tokenizer=tokenizer)))
    with pytest.raises(SettingsError, match=r"<\|end\|>"):
        frame_with_prompt(backbone, "{text}<|end|>")


def test_a_folder_has_no_prompt_of_its_own_even_if_it_is_named_like_a_backbone_that_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_backbone(tmp_path / "smollm2-135m-q4")
    monkeypatch.chdir(tmp_path)
    assert load_backbone("smollm2-135m-q4").prompt is None
