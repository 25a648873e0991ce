"""Runs made by hand, of any reading and any kind of answer, without a training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from miniature import N_SMALL_TOKENS, messages, random_gpt, small_tokenizer, write_messages

from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.classifier.checkpoint import save_classifier
from lasttoken.classifier.classifier import Classifier, ClassifierConfig

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A function that makes a finished run of a random classifier; its arguments are fields of ClassifierConfig."""
    n_made = 0

    def make(
        seed: int = 5,
        n_embd: int = 32,
        tokenizer: Tokenizer | None = None,
        decoder: Decoder | None = None,
        **changes: Any,
    ) -> Path:
        nonlocal n_made
        n_made += 1
        tokenizer = tokenizer or small_tokenizer()
        gpt = decoder or random_gpt(n_positions=48, n_embd=n_embd, vocab_size=tokenizer.n_tokens)
        config = ClassifierConfig(
            labels=("ham", "spam", "eggs"),
            read="last",
            causal_mask=True,
            max_length=40,
            truncate="tail",
            train_blocks="1",
            end_of_text_id=N_SMALL_TOKENS - 1,
            prefix_ids=tokenizer.prefix_ids,
            suffix_ids=tokenizer.suffix_ids,
            backbone="miniature",
            temperature=1.7,
        )
        classifier = Classifier(gpt, replace(config, **changes), seed)
        with torch.no_grad():
            classifier.head.weight.mul_(3)
            if classifier.config.head_bias:
                classifier.head.bias.normal_(generator=torch.Generator().manual_seed(seed))
        run = tmp_path / f"run{n_made}"
        (run / "splits").mkdir(parents=True)
        save_classifier(run, classifier, tokenizer)
        texts, _ = messages(30)
        write_messages(run / "splits" / "test.csv", texts, ["ham"] * 30)
        (run / "README.md").write_text('---\nlibrary_name: "lasttoken"\n---\n\n# A card\n')
        (run / "metrics.json").write_text(json.dumps({"splits": {}}))
        return run

    return make
