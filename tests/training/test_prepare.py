"""Texts and labels become numbers, with notes about truncation; a training's fingerprint covers them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from miniature import N_SMALL_TOKENS, framed_tokenizer, messages, plain_settings, random_gpt, write_backbone
from run_folders import rows_of, settings_of, train

from lasttoken.backbone.pretrained import load_backbone
from lasttoken.core.device import CPU
from lasttoken.core.errors import SettingsError
from lasttoken.data.files import Examples
from lasttoken.data.splitting.splits import Splits
from lasttoken.training.prepare import Prepared, fingerprint, prepare


def test_reading_the_first_token_warns(data: Path, backbone: Path, tmp_path: Path) -> None:
    assert "--no-causal-mask" in train(data, backbone, tmp_path / "a", "--read", "first").err
    without_mask = train(data, backbone, tmp_path / "b", "--read", "first", "--no-causal-mask")
    assert "--no-causal-mask" not in without_mask.err
    assert settings_of(tmp_path / "b")["causal_mask"] is False


def test_truncated_texts_are_counted_and_reported(data: Path, backbone: Path, tmp_path: Path) -> None:
    said = train(data, backbone, tmp_path / "run", "--max-length", 8).err
    n = len(rows_of(tmp_path / "run/splits/train.csv"))
    assert f"{n} of {n} train texts" in said
    assert "8 tokens" in said


def prepared(backbone: Path, **changes: Any) -> Prepared:
    """Six rows of train and six of validation, encoded for the miniature."""
    texts, labels = messages(12)
    splits = Splits(Examples(texts[:6], labels[:6]), Examples(texts[6:], labels[6:]), None)
    return prepare(splits, load_backbone(str(backbone)), plain_settings(**changes), CPU, lambda note: None)


def test_label_ids_follow_the_order_of_the_labels(backbone: Path) -> None:
    run = prepared(backbone)
    assert run.labels == ("ham", "spam")
    assert run.truth["train"].tolist() == [1, 0, 1, 0, 1, 0]
    assert {name: len(encoded) for name, encoded in run.encoded.items()} == {"train": 6, "validation": 6}
    assert run.label_counts is None


def test_an_incomplete_only_batch_that_would_be_dropped_is_an_error(backbone: Path) -> None:
    prepared(backbone, batch_size=6, drop_last=True)
    with pytest.raises(SettingsError, match=r"--batch-size is 7.* 6 rows"):
        prepared(backbone, batch_size=7, drop_last=True)


def test_the_fingerprint_covers_token_ids_truth_and_trunk(backbone: Path) -> None:
    settings, run = plain_settings(), prepared(backbone)
    truth = {**run.truth, "train": 1 - run.truth["train"]}
    fingerprints = [
        fingerprint(run, settings, "trunk"),
        fingerprint(run, settings, "another trunk"),
        fingerprint(replace(run, truth=truth), settings, "trunk"),
        fingerprint(prepared(backbone, max_length=4), settings, "trunk"),
    ]
    assert len(set(fingerprints)) == 4
    assert fingerprint(prepared(backbone), settings, "trunk") == fingerprints[0]


@pytest.fixture
def framed(tmp_path: Path) -> Path:
    """A backbone whose tokenizer puts a token on either side of a text."""
    tokenizer = framed_tokenizer(("<|start|>",), ("<|end|>",))
    gpt = random_gpt(n_positions=64, vocab_size=tokenizer.n_tokens)
    return write_backbone(tmp_path / "framed", gpt, tokenizer=tokenizer)


@pytest.mark.parametrize("changes", [{}, {"max_length": 8}, {"read": "padded-last"}, {"read": "padded-mean"}])
def test_every_text_stands_in_the_frame_which_counts_as_tokens(changes: dict[str, Any], framed: Path) -> None:
    run = prepared(framed, **changes)
    config = run.classifier.config
    assert (config.prefix_ids, config.suffix_ids) == ((N_SMALL_TOKENS,), (N_SMALL_TOKENS + 1,))
    for encoded in run.encoded.values():
        assert set(encoded.token_ids[encoded.offsets[:-1]]) == {N_SMALL_TOKENS}
        ends = [ids[ids != config.end_of_text_id][-1] for ids in map(encoded.ids_of, ([row] for row in range(6)))]
        assert set(ends) == {N_SMALL_TOKENS + 1}
        assert encoded.longest <= config.max_length


@pytest.mark.parametrize("max_length", [1, 2])
def test_a_length_that_the_frame_takes_by_itself_is_an_error(max_length: int, framed: Path) -> None:
    with pytest.raises(SettingsError, match=rf"--max-length is {max_length}, .* 2 tokens .* use 3 or more"):
        prepared(framed, max_length=max_length)


@pytest.mark.parametrize("max_length", [None, 9])
def test_a_prompt_stands_inside_the_frame_and_is_recorded(max_length: int | None, framed: Path) -> None:
    run = prepared(framed, prompt="the {text}<|end|>", max_length=max_length)
    config, tokenizer = run.classifier.config, run.predictor.tokenizer
    assert config.prompt == "the {text}<|end|>"
    assert config.prefix_ids == (N_SMALL_TOKENS, *tokenizer.encode("the "))
    assert config.suffix_ids == (N_SMALL_TOKENS + 1,) * 2
    texts = run.splits.train.texts
    for row, text in enumerate(texts):
        own = tokenizer.encode(text)[: max_length - config.n_frame if max_length else None]
        assert run.encoded["train"].ids_of([row]).tolist() == [*config.prefix_ids, *own, *config.suffix_ids]
    assert any("the {text}<|end|>" in note for note in run.notes)
    assert any(f"{config.n_frame} of them the prompt" in note for note in run.notes) == bool(max_length)


def test_a_prompt_that_leaves_no_room_for_a_text_is_an_error(backbone: Path) -> None:
    with pytest.raises(SettingsError, match=r"--max-length is 6, but 6 tokens .*--prompt"):
        prepared(backbone, prompt="{text} Topic", max_length=6)
    assert prepared(backbone, prompt="{text} Topic", max_length=7).encoded["train"].longest == 7


def test_texts_in_a_script_that_the_tokenizer_spells_out_are_noted(backbone: Path) -> None:
    examples = Examples(["中文文本", "日本語です", "see"] * 2, ["a", "b", "a"] * 2)
    splits = Splits(examples, Examples(["한국어", "see"], ["a", "b"]), None)
    run = prepare(splits, load_backbone(str(backbone)), plain_settings(), CPU, lambda note: None)
    assert any("tokens per character" in note for note in run.notes)
