"""From a text, with the model's own tokens around it, to the pooled state: transformers computes the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from miniature import classifier_of
from rotary_miniatures import ROTARY_MINIATURES
from tokenizer_families import FAMILIES, write_tokenizer
from transformers import AutoTokenizer
from twins import random_twin

from lasttoken.backbone.families import family_of
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.classifier.predict import Predictor
from lasttoken.core.documents import load_json, to_json

TEXTS = ("Win a prize <|endoftext|> now", "see you <s> <bos> at 6", "naïve [SEP] 日本", "a", "")


@pytest.mark.parametrize("name", ["llama3", "llama2", "mistral", "qwen3-embedding", "gemma3", "ettin"])
@torch.no_grad()
def test_the_pooled_state_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    published = FAMILIES[name]
    write_tokenizer(tmp_path, published)
    ending = load_json(tmp_path / "config.json")["eos_token_id"]
    n_tokens = len(AutoTokenizer.from_pretrained(tmp_path))
    config = replace(ROTARY_MINIATURES[published.model_type], vocab_size=n_tokens, n_positions=128)
    twin = random_twin(family_of(config).write_config(config))
    twin.save_pretrained(tmp_path)
    content: dict[str, Any] = load_json(tmp_path / "config.json") | {"eos_token_id": ending}
    (tmp_path / "config.json").write_text(to_json(content), "utf-8")

    backbone = load_backbone(str(tmp_path))
    assert (len(backbone.prefix_ids), len(backbone.suffix_ids)) == (len(published.before), len(published.after))
    classifier = classifier_of(backbone.decoder, labels=("a", "b", "c"))
    classifier.config = replace(
        classifier.config,
        end_of_text_id=backbone.end_of_text_id,
        prefix_ids=backbone.prefix_ids,
        suffix_ids=backbone.suffix_ids,
    )
    predictor = Predictor(classifier, backbone.tokenizer)
    logits = predictor.logits(predictor.encode(TEXTS))

    theirs = AutoTokenizer.from_pretrained(tmp_path, split_special_tokens=True)
    for text, own in zip(TEXTS, logits, strict=True):
        ids = torch.tensor([theirs(text)["input_ids"]])
        state = twin.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0, -1]
        torch.testing.assert_close(torch.from_numpy(own), classifier.head(state), atol=1e-4, rtol=1e-4)
