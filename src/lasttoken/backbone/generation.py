"""Writing with a backbone: is it really the GPT it should be? (Chapter 6 checks that before it trains.)

prompt_token_ids ─► keys and values of the prompt ─► one token at a time ─► token_ids
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lasttoken.backbone.decoder import Decoder, KeyValues
from lasttoken.core.errors import SettingsError

COLDEST = 1e-30  # below, a temperature is as good as 0, and on some machines it is 0 when it is divided by


@dataclass(frozen=True)
class Generated:
    """What was written. `full`: the context was full before all tokens were written."""

    prompt_token_ids: list[int]
    token_ids: list[int]  # without the prompt
    full: bool


@torch.inference_mode()
def generate(
    decoder: Decoder,
    prompt_token_ids: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    seed: int = 123,
    stop_id: int | None = None,
) -> Generated:
    """Continue a prompt; greedily when `temperature` is 0, else drawn from softmax(logits / temperature).

    `top_k` keeps only the k likeliest tokens to draw from. Writing ends at `max_new_tokens`, at `stop_id`, or when
    the context is full: with learned positions there is no place for a token after the last.

    Raises:
        SettingsError: a prompt longer than the context, or values that cannot be meant.
    """
    n_positions = decoder.config.n_positions
    if not prompt_token_ids:
        raise SettingsError("the prompt is empty; give at least one character")
    if len(prompt_token_ids) > n_positions:
        raise SettingsError(
            f"the prompt has {len(prompt_token_ids)} tokens, the backbone has {n_positions} positions; shorten it"
        )
    if max_new_tokens < 1 or not 0 <= temperature < math.inf or (top_k is not None and top_k < 1):
        raise SettingsError("--max-new-tokens and --top-k must be at least 1, --temperature a number from 0")
    random = torch.Generator(decoder.token_embedding.device).manual_seed(seed)
    cache = KeyValues(decoder.config.n_layer)
    found: list[int] = []
    ids = torch.tensor(list(prompt_token_ids), device=decoder.token_embedding.device)
    while True:
        logits = decoder.logits(decoder.extend(ids, cache)[-1])
        found.append(_choose(logits, temperature, top_k, random))
        if found[-1] == stop_id or len(found) == max_new_tokens:
            return Generated(list(prompt_token_ids), found, full=False)
        if cache.n_tokens == n_positions:
            return Generated(list(prompt_token_ids), found, full=True)
        ids = torch.tensor(found[-1:], device=ids.device)


def _choose(logits: Tensor, temperature: float, top_k: int | None, random: torch.Generator) -> int:
    """One token id of logits [V]."""
    if temperature < COLDEST:
        return int(logits.argmax())
    if top_k is not None:
        smallest = logits.topk(min(top_k, len(logits))).values[-1]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    logits = logits - logits.max()  # divided by a small temperature the others reach -inf, and never inf - inf
    return int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=random))


@torch.inference_mode()
def answer_log_probs(
    decoder: Decoder, prompt_token_ids: Sequence[int], answers: Sequence[Sequence[int]]
) -> list[float]:
    """log P(answer | prompt) of each answer: the sum over its tokens. The prompt is read once.

    Raises:
        SettingsError: prompt and answer do not fit the context.
    """
    longest = len(prompt_token_ids) + max(len(answer) for answer in answers)
    if longest > decoder.config.n_positions:
        raise SettingsError(
            f"prompt and answer have {longest} tokens, the backbone has {decoder.config.n_positions} positions"
        )
    cache, device = KeyValues(decoder.config.n_layer), decoder.token_embedding.device
    prompt = torch.tensor(list(prompt_token_ids), device=device)
    first = decoder.logits(decoder.extend(prompt, cache)[-1:])  # [1, V]
    found = []
    for answer in answers:
        ids = torch.tensor(list(answer), device=device)
        logits = first
        if len(answer) > 1:
            logits = torch.cat((first, decoder.logits(decoder.extend(ids[:-1], cache.fork()))))
        found.append(float(logits.log_softmax(-1).gather(1, ids[:, None]).sum()))
    return found
