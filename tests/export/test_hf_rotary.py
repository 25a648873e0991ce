"""Classifiers on the families with rotary positions, exported for transformers: heads without a bias, every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from export.conftest import MakeRun
from miniature import framed_tokenizer, random_decoder, run_cli
from rotary_miniatures import ROTARY_MINIATURES
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lasttoken.backbone.families import FAMILIES
from lasttoken.classifier.predict import Predictor
from lasttoken.export.checking import logits_of

TEXTS = ("a", "the end <|endoftext|>", "see you at six, " * 3, "in the end<|end|>", "né 🙂")
WITH_CLASSIFIER = [name for name in ROTARY_MINIATURES if FAMILIES[name].classifier_architecture]
TOKENIZER = framed_tokenizer()


def make_rotary_run(name: str, make_run: MakeRun, before: Sequence[str] = (), after: Sequence[str] = ()) -> Path:
    config = replace(ROTARY_MINIATURES[name], vocab_size=TOKENIZER.n_tokens)
    tokenizer = framed_tokenizer(before, after)
    return make_run(
        decoder=random_decoder(config, torch.float32),
        tokenizer=tokenizer,
        head_bias=False,
        max_length=config.n_positions,
    )


@torch.no_grad()
@pytest.mark.parametrize("name", WITH_CLASSIFIER)
def test_the_classes_of_transformers_give_our_logits_alone_and_in_a_batch(
    name: str, make_run: MakeRun, tmp_path: Path
) -> None:
    before, after = [((), ()), (("<|start|>",), ()), (("<|start|>",), ("<|endoftext|>",))][len(name) % 3]
    run = make_rotary_run(name, make_run, before, after)
    answer = run_cli("export", run, "--to", "hf", "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    assert type(model).__name__ == FAMILIES[name].classifier_architecture
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    batch = tokenizer(list(TEXTS), padding=True, truncation=True, return_tensors="pt")
    assert model.config.pad_token_id == tokenizer.pad_token_id
    lengths = batch["attention_mask"].sum(1)
    assert (batch["input_ids"] == tokenizer.pad_token_id).sum(1).tolist() == (lengths.max() - lengths).tolist()
    expected = logits_of(Predictor.load(run, "cpu"), TEXTS)
    np.testing.assert_allclose(
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits, expected, atol=1e-4
    )
    alone = tokenizer(TEXTS[2], truncation=True, return_tensors="pt")["input_ids"]
    np.testing.assert_allclose(model(input_ids=alone).logits[0], expected[2], atol=1e-4)


def test_a_head_with_a_bias_has_no_place_and_the_error_says_how_to_train_one_without(
    make_run: MakeRun, tmp_path: Path
) -> None:
    config = replace(ROTARY_MINIATURES["llama"], vocab_size=TOKENIZER.n_tokens)
    run = make_run(decoder=random_decoder(config, torch.float32), tokenizer=TOKENIZER, max_length=24)
    answer = run_cli("export", run, "--to", "hf", "--out", tmp_path / "out")
    assert answer.code == 2
    assert "--no-head-bias --read last" in answer.err
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_bias_is_trained_and_exported(data: Path, backbone: Path, tmp_path: Path) -> None:
    """From the command line to transformers, on GPT-2's architecture, where a bias would be folded."""
    flags = ("--no-head-bias", "--read", "last", "--epochs", 1, "--train-blocks", 1, "--seeds", 2)
    answer = run_cli("train", data, "--backbone", backbone, *flags, "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert not Predictor.load(tmp_path / "run", "cpu").classifier.config.head_bias
    answer = run_cli("export", tmp_path / "run", "--to", "hf", "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
