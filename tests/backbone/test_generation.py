"""Drawing tokens and weighing answers; greedy writing is held against transformers in parity/."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from miniature import random_gpt

from lasttoken.backbone.generation import answer_log_probs, generate
from lasttoken.backbone.gpt2.network import GPT2
from lasttoken.backbone.packing import Packing
from lasttoken.core.errors import SettingsError

PROMPT = [5, 200, 31]


@pytest.fixture(scope="module")
def gpt() -> GPT2:
    return random_gpt()


def log_probs(gpt: GPT2, token_ids: list[int]) -> torch.Tensor:
    """[n, V], of the token after each."""
    return gpt.logits(gpt(torch.tensor(token_ids), Packing([len(token_ids)]))).log_softmax(-1)


@pytest.mark.parametrize("top_k", [None, 5])
def test_the_same_seed_draws_the_same_tokens_and_another_seed_others(gpt: GPT2, top_k: int | None) -> None:
    def drawn(seed: int) -> list[int]:
        return generate(gpt, PROMPT, max_new_tokens=20, temperature=1.0, top_k=top_k, seed=seed).token_ids

    before = torch.get_rng_state()
    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(6)}) == 6
    assert torch.equal(torch.get_rng_state(), before), "the generator that everyone shares is left alone"


def test_greedy_generation_does_not_depend_on_the_seed(gpt: GPT2) -> None:
    assert len({tuple(generate(gpt, PROMPT, max_new_tokens=9, seed=seed).token_ids) for seed in range(4)}) == 1


@pytest.mark.parametrize("changes", [{"top_k": 1, "temperature": 5.0}, {"temperature": 1e-4}, {"temperature": 1e-44}])
def test_sampling_from_the_most_probable_token_is_greedy(gpt: GPT2, changes: dict[str, float]) -> None:
    greedy = generate(gpt, PROMPT, max_new_tokens=20).token_ids
    drawn = generate(gpt, PROMPT, max_new_tokens=20, **changes)  # type: ignore[arg-type]
    assert drawn.token_ids == greedy


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.5, None), (2.0, 4), (1.0, 10_000)], ids=str)
def test_sampled_tokens_have_the_frequencies_of_softmax(temperature: float, top_k: int | None) -> None:
    gpt = random_gpt(vocab_size=8, n_embd=8, n_layer=1, n_head=2, seed=3)
    n = 1000
    counts = Counter(
        generate(gpt, [1, 2], max_new_tokens=1, temperature=temperature, top_k=top_k, seed=seed).token_ids[0]
        for seed in range(n)
    )
    logits = log_probs(gpt, [1, 2])[-1] / temperature
    kept = logits.topk(min(top_k or 8, 8)).indices.tolist()
    expected = {token_id: float(logits[kept].softmax(0)[at]) for at, token_id in enumerate(kept)}
    assert counts.keys() <= expected.keys(), "nothing but the k likeliest is drawn"
    chi2 = sum((counts[token_id] - n * p) ** 2 / (n * p) for token_id, p in expected.items() if n * p >= 5)
    assert chi2 < 24.3, "the 99.9 % point of chi squared with 7 degrees of freedom"
    assert len(counts) > 1


def test_the_stop_id_ends_a_sampled_text(gpt: GPT2) -> None:
    free = generate(gpt, PROMPT, max_new_tokens=20, temperature=1.0).token_ids
    stopped = generate(gpt, PROMPT, max_new_tokens=20, temperature=1.0, stop_id=free[4]).token_ids
    assert stopped == free[: free.index(free[4]) + 1]


@pytest.mark.parametrize(
    ("prompt", "changes", "sentence"),
    [
        ([], {}, "the prompt is empty"),
        (list(range(33)), {}, "the prompt has 33 tokens, the backbone has 32 positions; shorten it"),
        (PROMPT, {"max_new_tokens": 0}, "--max-new-tokens is 0"),
        (PROMPT, {"max_new_tokens": -3}, "--max-new-tokens is -3"),
        (PROMPT, {"temperature": -0.1}, "--temperature is -0.1"),
        (PROMPT, {"temperature": float("nan")}, "--temperature is nan"),
        (PROMPT, {"temperature": float("inf")}, "--temperature is inf"),
        (PROMPT, {"top_k": 0, "temperature": 1.0}, "--top-k is 0"),
    ],
)
def test_a_value_out_of_range_is_named(gpt: GPT2, prompt: list[int], changes: dict[str, float], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        generate(gpt, prompt, **{"max_new_tokens": 5, **changes})  # type: ignore[arg-type]


def test_an_answers_log_probability_is_the_sum_of_a_plain_forward_pass() -> None:
    gpt = random_gpt(dtype=torch.float64)
    answers = [[7], [7, 8], [9, 250, 3, 3], [0]]
    expected = []
    for answer in answers:
        rows = log_probs(gpt, PROMPT + answer)[len(PROMPT) - 1 : -1]
        expected.append(float(rows[range(len(answer)), answer].sum()))
    assert answer_log_probs(gpt, PROMPT, answers) == pytest.approx(expected, rel=0, abs=1e-10)
    assert answer_log_probs(gpt, PROMPT, answers[::-1]) == pytest.approx(expected[::-1], rel=0, abs=1e-10)


def test_the_probabilities_of_all_one_token_answers_add_up_to_one(gpt: GPT2) -> None:
    found = answer_log_probs(gpt, PROMPT, [[token_id] for token_id in range(gpt.config.vocab_size)])
    assert float(torch.tensor(found).exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_prompt_and_longest_answer_must_fit_the_context(gpt: GPT2) -> None:
    assert len(answer_log_probs(gpt, [1] * 29, [[2], [2, 3, 4]])) == 2
    with pytest.raises(SettingsError, match="prompt and answer have 33 tokens, the backbone has 32 positions"):
        answer_log_probs(gpt, [1] * 30, [[2], [2, 3, 4]])
