"""`lasttoken generate`: text from a backbone."""

from __future__ import annotations

import json
from pathlib import Path

from miniature import framed_tokenizer, random_gpt, run_cli, small_tokenizer, write_backbone

from lasttoken.backbone.generation import generate
from lasttoken.backbone.pretrained import load_backbone

PROMPT = "Every effort moves you"


def test_generate_gives_the_prompts_tokens_and_the_new_ones(backbone: Path) -> None:
    generation = json.loads(run_cli("generate", backbone, PROMPT, "--max-new-tokens", 7, "--json").out)
    tokenizer = small_tokenizer()
    assert generation["prompt_token_ids"] == tokenizer.encode(PROMPT)
    assert len(generation["token_ids"]) == 7
    assert generation["text"] == tokenizer.decode([*generation["prompt_token_ids"], *generation["token_ids"]])
    assert generation["text"].startswith(PROMPT)
    assert generation["context_full"] is False
    expected = generate(load_backbone(str(backbone)).decoder, generation["prompt_token_ids"], max_new_tokens=7)
    assert generation["token_ids"] == expected.token_ids


def test_generate_is_greedy_by_default(backbone: Path) -> None:
    flags = (backbone, PROMPT, "--max-new-tokens", 12)
    greedy = run_cli("generate", *flags).out
    assert run_cli("generate", *flags, "--seed", 5).out == greedy
    assert run_cli("generate", *flags, "--temperature", 2, "--top-k", 1).out == greedy
    drawn = {run_cli("generate", *flags, "--temperature", 2, "--seed", seed).out for seed in (1, 1, 2, 3)}
    assert len(drawn) == 3, "the same seed draws the same"


def test_generate_says_when_the_context_is_full(backbone: Path) -> None:
    answer = run_cli("generate", backbone, "a" * 60, "--max-new-tokens", 50, "--json")
    generation = json.loads(answer.out)
    assert generation["context_full"] is True
    assert len(generation["token_ids"]) == 5
    assert "64 tokens" in answer.err
    assert "5 new tokens" in answer.err


def test_generate_starts_with_the_start_token_and_does_not_print_it(tmp_path: Path) -> None:
    tokenizer = framed_tokenizer(("<|start|>",), ("<|end|>",))
    gpt = random_gpt(n_positions=64, vocab_size=tokenizer.n_tokens)
    backbone = write_backbone(tmp_path / "framed", gpt, tokenizer=tokenizer)
    generation = json.loads(run_cli("generate", backbone, PROMPT, "--max-new-tokens", 3, "--json").out)
    assert generation["prompt_token_ids"] == [*tokenizer.prefix_ids, *tokenizer.encode(PROMPT)]
    assert generation["text"].startswith(PROMPT)
