"""Runs with LoRA made by hand, without a training: a base folder, and a run of random updates with its adapter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from miniature import random_decoder, random_gpt, small_tokenizer, write_folder
from rotary_miniatures import ROTARY_MINIATURES

from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.families import family_of
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.classifier.adapter import save_adapter
from lasttoken.classifier.checkpoint import save_classifier
from lasttoken.classifier.classifier import Classifier, ClassifierConfig
from lasttoken.classifier.lora import LoraConfig

N_POSITIONS = 48


def base_decoder(name: str) -> Decoder:
    """A random network of a family; of two blocks more than its LoRA changes."""
    if name == "gpt2":
        return random_gpt(n_positions=N_POSITIONS)
    return random_decoder(replace(ROTARY_MINIATURES[name], n_positions=N_POSITIONS), torch.float32)


def write_base(folder: Path, name: str) -> Path:
    """The folder of `base_decoder`."""
    return write_folder(folder, base_decoder(name))


@torch.no_grad()
def make_lora_run(run: Path, base: Path, seed: int = 5, depth: int | None = None, **lora: Any) -> Path:
    """A finished run of updates on a base folder, and of a norm and a head, all of them random; its adapter is kept."""
    backbone = load_backbone(str(base), depth=depth)
    family = family_of(backbone.config)
    fields: dict[str, Any] = {"rank": 3, "alpha": 6.0, "blocks": 1, "matrices": tuple(family.matrices)}
    config = ClassifierConfig(
        labels=("ham", "spam", "eggs"),
        read="last",
        causal_mask=True,
        max_length=40,
        truncate="tail",
        train_blocks="lora",
        end_of_text_id=backbone.end_of_text_id,
        backbone=str(base),
        temperature=1.7,
        lora=LoraConfig(**(fields | lora)),
        head_bias=family.final_bias is not None,
    )
    classifier = Classifier(backbone.decoder, config, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in classifier.trained().values():
        parameter.add_(torch.empty(parameter.shape).normal_(0, 0.2, generator=generator))
    (run / "splits").mkdir(parents=True)
    save_adapter(run / "adapter", classifier)
    classifier.merge()
    save_classifier(run, classifier, small_tokenizer())
    (run / "metrics.json").write_text(json.dumps({"splits": {}}))
    return run
