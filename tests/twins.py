"""Networks of transformers, the other implementation that logits are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM


def twin_of(content: dict[str, Any]) -> Any:
    """The network of transformers for the content of a config.json, with its own plain attention; not trained."""
    config = AutoConfig.for_model(**{"pad_token_id": content["vocab_size"] - 1, **content})
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").train(False)  # type: ignore[no-untyped-call]


@torch.no_grad()
def random_twin(content: dict[str, Any], seed: int = 1) -> Any:
    """A twin whose parameters are all random, norms and biases too."""
    twin, generator = twin_of(content), torch.Generator().manual_seed(seed)
    for name, parameter in twin.named_parameters():
        is_scale = parameter.dim() == 1 and "norm" in name and content["model_type"] != "gemma3_text"
        values = torch.empty(parameter.shape).normal_(0.0, 0.3 if parameter.dim() == 1 else 0.2, generator=generator)
        parameter.copy_(values + 1 if is_scale else values)
    twin.tie_weights()
    return twin


@torch.no_grad()
def continue_greedily(twin: Any, token_ids: list[int], n: int) -> list[int]:
    """The n tokens that transformers generates after a prompt, with its cache."""
    twin.generation_config.eos_token_id = None
    generated = twin.generate(torch.tensor([token_ids]), max_new_tokens=n, do_sample=False)
    return generated[0, len(token_ids) :].tolist()  # type: ignore[no-any-return]


def save_twin(twin: Any, folder: Path, *, sharded: bool) -> Path:
    """Write a twin as transformers writes it, in several files if asked for."""
    twin.save_pretrained(folder, max_shard_size="20KB" if sharded else "1GB")
    return folder
