"""Text generation with a backbone, to check that its weights are the right ones (as chapter 6 does before training).

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

MIN_TEMPERATURE = 1e-30  # a smaller one is treated as 0; on some machines it would underflow to 0 and be divided by


@dataclass(frozen=True)
class Generated:
    """A generated continuation."""

    prompt_token_ids: list[int]
    token_ids: list[int]  # without the prompt
    full: bool  # the context was full before all tokens were generated


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
    """Continue a prompt: greedily if `temperature` is 0, otherwise sampling from softmax(logits / temperature).

    `top_k` samples from the k most probable tokens only. Generation ends after `max_new_tokens`, at `stop_id`, or when
    the context is full.

    Raises:
        SettingsError: the prompt is empty or longer than the context, or another value is out of range.
    """
    n_positions = decoder.config.n_positions
    if not prompt_token_ids:
        raise SettingsError("the prompt is empty; give at least one character")
    if len(prompt_token_ids) > n_positions:
        raise SettingsError(
            f"the prompt has {len(prompt_token_ids)} tokens, the backbone has {n_positions} positions; shorten it"
        )
    if max_new_tokens < 1:
        raise SettingsError(f"--max-new-tokens is {max_new_tokens}; it must be at least 1")
    if top_k is not None and top_k < 1:
        raise SettingsError(f"--top-k is {top_k}; it must be at least 1")
    if not 0 <= temperature < math.inf:
        raise SettingsError(f"--temperature is {temperature}; it must be a finite number from 0")
    random = torch.Generator(decoder.token_embedding.device).manual_seed(seed)
    cache = KeyValues(decoder.config.n_layer)
    token_ids: list[int] = []
    ids = torch.tensor(list(prompt_token_ids), device=decoder.token_embedding.device)
    while True:
        logits = decoder.logits(decoder.extend(ids, cache)[-1])
        token_ids.append(_choose(logits, temperature, top_k, random))
        if token_ids[-1] == stop_id or len(token_ids) == max_new_tokens:
            return Generated(list(prompt_token_ids), token_ids, full=False)
        if cache.n_tokens == n_positions:
            return Generated(list(prompt_token_ids), token_ids, full=True)
        ids = torch.tensor(token_ids[-1:], device=ids.device)


def _choose(logits: Tensor, temperature: float, top_k: int | None, random: torch.Generator) -> int:
    """The next token id, from logits [V]."""
    if temperature < MIN_TEMPERATURE:
        return int(logits.argmax())
    if top_k is not None:
        smallest = logits.topk(min(top_k, len(logits))).values[-1]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    logits = logits - logits.max()  # so that dividing by a small temperature gives -inf, never inf - inf
    return int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=random))


@torch.inference_mode()
def answer_log_probs(
    decoder: Decoder, prompt_token_ids: Sequence[int], answers: Sequence[Sequence[int]]
) -> list[float]:
    """log P(answer | prompt) of each answer, summed over its tokens. The prompt is computed once.

    Raises:
        SettingsError: the prompt and the longest answer do not fit the context.
    """
    longest = len(prompt_token_ids) + max(len(answer) for answer in answers)
    if longest > decoder.config.n_positions:
        raise SettingsError(
            f"prompt and answer have {longest} tokens, the backbone has {decoder.config.n_positions} positions"
        )
    cache, device = KeyValues(decoder.config.n_layer), decoder.token_embedding.device
    prompt = torch.tensor(list(prompt_token_ids), device=device)
    first = decoder.logits(decoder.extend(prompt, cache)[-1:])  # [1, V]
    log_probs = []
    for answer in answers:
        ids = torch.tensor(list(answer), device=device)
        logits = first
        if len(answer) > 1:
            logits = torch.cat((first, decoder.logits(decoder.extend(ids[:-1], cache.fork()))))
        log_probs.append(float(logits.log_softmax(-1).gather(1, ids[:, None]).sum()))
    return log_probs
