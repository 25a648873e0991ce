"""Greedy writing, token for token that of transformers on random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from miniature import published_tensors, random_gpt
from transformers import GPT2Config, GPT2LMHeadModel

from lasttoken.backbone.generation import generate
from lasttoken.backbone.gpt2.family import write_config
from lasttoken.backbone.gpt2.network import GPT2

N_POSITIONS = 32


def lively_gpt(seed: int = 1, tied: bool = True) -> GPT2:
    """A random GPT in which positions weigh much, so that it does not write one token for ever."""
    gpt = random_gpt(n_positions=N_POSITIONS, tied=tied, seed=seed)
    gpt.wpe.weight.mul_(6.0)
    gpt.ln_f.bias.zero_()
    return gpt


def transformers_twin(gpt: GPT2) -> Any:  # their class rejects its own `generate` under strict typing
    """The same weights in transformers' GPT2LMHeadModel."""
    twin = GPT2LMHeadModel(GPT2Config(**write_config(gpt.config), bos_token_id=0, eos_token_id=0))
    missing, unknown = twin.load_state_dict(published_tensors(gpt), strict=False)
    assert not unknown
    assert set(missing) <= {"lm_head.weight"}
    twin.tie_weights()
    twin.train(False)
    return twin


def written_by(twin: Any, prompt: list[int], max_new_tokens: int, stop_id: int | None = None) -> list[int]:
    ids = torch.tensor([prompt])
    found = twin.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=stop_id,
        pad_token_id=0,
    )
    return [int(token_id) for token_id in found[0, len(prompt) :]]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("seed", range(4))
def test_greedy_tokens_are_those_of_transformers(tied: bool, seed: int) -> None:
    gpt = lively_gpt(seed, tied)
    twin = transformers_twin(gpt)
    for prompt in ([7], [3, 200, 9, 41, 41], list(range(100, 112))):
        found = generate(gpt, prompt, max_new_tokens=20)
        assert found.token_ids == written_by(twin, prompt, 20)
        assert len(set(found.token_ids)) > 3, "a text that only repeats itself would show little"
        assert (found.prompt_token_ids, found.full) == (prompt, False)


@pytest.mark.parametrize("n_prompt", [1, 31, 32])
def test_writing_fills_the_context_to_its_last_position_and_says_that_it_is_full(n_prompt: int) -> None:
    gpt = lively_gpt()
    prompt = list(range(50, 50 + n_prompt))
    found = generate(gpt, prompt, max_new_tokens=500)
    room = N_POSITIONS - n_prompt + 1  # the last token that is written needs no position: nothing comes after it
    assert found.full
    assert found.token_ids == written_by(transformers_twin(gpt), prompt, room)
    assert not generate(gpt, prompt, max_new_tokens=room).full, "all that was asked for was written"


def test_writing_stops_at_the_stop_id_as_transformers_does_and_only_when_asked() -> None:
    gpt, prompt = lively_gpt(), [5, 6]
    free = generate(gpt, prompt, max_new_tokens=20).token_ids
    stop_id = next(token_id for token_id in free[3:] if token_id not in free[:3])
    stopped = generate(gpt, prompt, max_new_tokens=20, stop_id=stop_id)
    assert stopped.token_ids == written_by(transformers_twin(gpt), prompt, 20, stop_id)
    assert stopped.token_ids == free[: free.index(stop_id) + 1]
    assert len(free) == 20
    assert not stopped.full
