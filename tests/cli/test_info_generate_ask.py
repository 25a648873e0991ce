"""`info`, `generate`, `ask` and `fetch` as the command line answers them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from miniature import N_SMALL_TOKENS, messages, run_cli, small_tokenizer, write_messages

from lasttoken.backbone.generation import generate
from lasttoken.backbone.pretrained import load_backbone

PROMPT = "Every effort moves you"


def test_info_tells_what_a_run_is(run_dir: Path, backbone: Path) -> None:
    answer = run_cli("info", run_dir, "--json")
    found = json.loads(answer.out)
    metrics = json.loads((run_dir / "metrics.json").read_text("utf-8"))
    assert answer.err == ""
    assert found["labels"] == ["ham", "spam"]
    assert found["backbone"] == str(backbone)
    assert found["accuracy"] == {name: split["accuracy"] for name, split in metrics["splits"].items()}
    assert found["settings"]["epochs"] == 3
    assert found["max_length"] == 64
    assert len(found["trunk"]) == 64
    assert {"lasttoken", "torch", "python"} <= found["versions"].keys()


def test_info_as_text_names_the_same_facts(run_dir: Path) -> None:
    lines = run_cli("info", run_dir).out.splitlines()
    facts = dict(line.split("\t", 1) for line in lines if "\t" in line)
    assert facts["run"] == str(run_dir)
    assert facts["  epochs"] == "3"
    assert not any(line.startswith(("{", "[")) for line in lines)


def test_info_works_after_the_run_has_moved(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "elsewhere")
    found = json.loads(run_cli("info", tmp_path / "elsewhere", "--json", "--offline").out)
    assert found == {**json.loads(run_cli("info", run_dir, "--json").out), "run": str(tmp_path / "elsewhere")}


def test_info_tells_what_a_backbone_is(backbone: Path) -> None:
    found = json.loads(run_cli("info", backbone, "--json").out)
    shape = {"n_layer": 3, "n_embd": 32, "n_head": 4, "n_positions": 64, "vocab_size": N_SMALL_TOKENS}
    assert {name: found[name] for name in shape} == shape
    assert found["end_of_text_id"] == N_SMALL_TOKENS - 1
    assert found["parameters"] == sum(p.numel() for p in load_backbone(str(backbone)).decoder.parameters())


def test_info_knows_the_bundled_backbone_by_name() -> None:
    found = json.loads(run_cli("info", "pocket", "--json", "--offline").out)
    assert (found["backbone"], found["n_embd"], found["max_length"]) == ("pocket", 256, 256)


# generate ---------------------------------------------------------------------------------------------------------


def test_generate_gives_the_prompts_tokens_and_the_new_ones(backbone: Path) -> None:
    found = json.loads(run_cli("generate", backbone, PROMPT, "--max-new-tokens", 7, "--json").out)
    tokenizer = small_tokenizer()
    assert found["prompt_token_ids"] == tokenizer.encode(PROMPT)
    assert len(found["token_ids"]) == 7
    assert found["text"] == tokenizer.decode([*found["prompt_token_ids"], *found["token_ids"]])
    assert found["text"].startswith(PROMPT)
    assert found["context_full"] is False
    expected = generate(load_backbone(str(backbone)).decoder, found["prompt_token_ids"], max_new_tokens=7)
    assert found["token_ids"] == expected.token_ids


def test_generate_is_greedy_unless_asked(backbone: Path) -> None:
    flags = (backbone, PROMPT, "--max-new-tokens", 12)
    greedy = run_cli("generate", *flags).out
    assert run_cli("generate", *flags, "--seed", 5).out == greedy
    assert run_cli("generate", *flags, "--temperature", 2, "--top-k", 1).out == greedy
    drawn = {run_cli("generate", *flags, "--temperature", 2, "--seed", seed).out for seed in (1, 1, 2, 3)}
    assert len(drawn) == 3, "the same seed draws the same"


def test_generate_says_when_the_context_is_full(backbone: Path) -> None:
    answer = run_cli("generate", backbone, "a" * 60, "--max-new-tokens", 50, "--json")
    found = json.loads(answer.out)
    assert found["context_full"] is True
    assert len(found["token_ids"]) == 5
    assert "the context of 64 tokens is full: stopped after 5 new tokens" in answer.err


# ask --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_messages(tmp_path / "a.csv", *messages(10))


def test_ask_answers_both_ways(backbone: Path, questions: Path) -> None:
    flags = (backbone, questions, "--answers", "spam=yes,ham=no", "--prompt", "{text}?")
    found = json.loads(run_cli("ask", *flags, "--json").out)
    assert found["written"]["n"] == found["scored"]["n"] == 10
    assert 0 <= found["written"]["accuracy"] <= found["written"]["answered"] / 10 <= 1
    assert found["scored"]["labels"] == ["spam", "ham"]
    lines = run_cli("ask", *flags, "--quiet").out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["written", "scored"]
    assert f"accuracy {found['scored']['accuracy'] * 100:.2f}%" in lines[1]


def test_ask_asks_about_the_first_rows_only_when_told(backbone: Path, questions: Path) -> None:
    flags = ("--answers", "spam=yes,ham=no", "--prompt", "{text}?", "--limit", 3, "--json")
    assert json.loads(run_cli("ask", backbone, questions, *flags).out)["scored"]["n"] == 3


def test_ask_follows_the_answers_likelihood(backbone: Path, questions: Path) -> None:
    """Swapping the answers swaps the labels that are given."""
    found = [
        json.loads(run_cli("ask", backbone, questions, "--answers", answers, "--prompt", "{text}?", "--json").out)
        for answers in ("spam=yes,ham=no", "spam=no,ham=yes")
    ]
    assert found[0]["scored"]["accuracy"] == pytest.approx(1 - found[1]["scored"]["accuracy"])


# fetch ------------------------------------------------------------------------------------------------------------


def test_fetch_without_a_name_lists_what_there_is() -> None:
    found = json.loads(run_cli("fetch", "--json").out)
    assert {"sms-spam", "pocket", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"} == found.keys()
    assert [line.split("\t")[0] for line in run_cli("fetch").out.splitlines()] == list(found)


def test_fetch_of_the_bundled_backbone_needs_no_network() -> None:
    answer = run_cli("fetch", "pocket", "--offline")
    assert answer.code == 0
    assert (Path(answer.out.strip()) / "model.safetensors").is_file()


def test_fetch_offline_says_where_to_put_the_file(own_cache: Path) -> None:
    answer = run_cli("fetch", "sms-spam", "--offline")
    assert answer.code == 1
    assert len(answer.err.splitlines()) == 1
    assert str(own_cache) in answer.err
