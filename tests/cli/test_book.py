"""The chapter's data through the command line: its split byte for byte, its padding, its steps, its label ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniature import random_gpt, run_cli, write_backbone

from lasttoken.backbone.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def gpt2_backbone(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2's own tokenizer with the weights of a tiny random GPT of its vocabulary."""
    gpt = random_gpt(vocab_size=50257, n_positions=128, n_embd=8, n_layer=2, n_head=2)
    tokenizer = Tokenizer.load(shared_dir / "gpt2-tokenizer")
    return write_backbone(tmp_path_factory.mktemp("gpt2"), gpt, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def book_run(sms_file: Path, gpt2_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One epoch of the recipe: the run, and what was said."""
    out = tmp_path_factory.mktemp("book") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASTTOKEN_CACHE", str(tmp_path_factory.mktemp("book-cache")))
        answer = run_cli(
            "train", sms_file, "--recipe", "book", "--epochs", 1, "--backbone", gpt2_backbone, "--out", out
        )
    assert answer.code == 0, answer.err
    return out, answer.err


def test_split_gives_the_books_files_byte_for_byte_and_its_figures(
    sms_file: Path, shared_dir: Path, tmp_path: Path
) -> None:
    answer = run_cli("split", sms_file, "--recipe", "book", "--out", tmp_path / "splits")
    assert answer.code == 0, answer.err
    for name in ("train", "validation", "test"):
        expected = shared_dir / f"data/sms-spam/book-split/{name}.csv"
        assert (tmp_path / f"splits/{name}.csv").read_bytes() == expected.read_bytes()
    assert "ham 4,825, spam 747" in answer.err
    assert "ham 747, spam 747" in answer.err
    assert [line.split("\t")[:2] for line in answer.out.splitlines()] == [
        ["train", "1045"],
        ["validation", "149"],
        ["test", "300"],
    ]


def test_every_text_is_padded_to_120_with_the_end_of_text(book_run: tuple[Path, str]) -> None:
    run, said = book_run
    assert "120 tokens" in said
    assert "50256" in said
    ours = json.loads((run / "config.json").read_text("utf-8"))["lasttoken"]
    assert (ours["max_length"], ours["end_of_text_id"], ours["read"]) == (120, 50256, "padded-last")
    assert ours["labels"] == ["ham", "spam"]


def test_an_epoch_has_130_steps_and_is_evaluated_where_the_chapter_does(book_run: tuple[Path, str]) -> None:
    run, _ = book_run
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text("utf-8").splitlines()]
    found = [(line["kind"], line["step"], line["examples_seen"]) for line in lines]
    assert found == [("start", 0, 0), ("step", 1, 8), ("step", 51, 408), ("step", 101, 808), ("epoch", 130, 1040)]
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    assert metrics["examples"] == {"train": 1045, "validation": 149, "test": 300}
    assert metrics["kept_step"] == 130


def test_evaluate_accepts_the_books_label_ids_and_says_so(book_run: tuple[Path, str], shared_dir: Path) -> None:
    run, _ = book_run
    answer = run_cli("evaluate", run, shared_dir / "data/sms-spam/book-split/test.csv", "--json")
    assert answer.code == 0, answer.err
    assert "0 = ham, 1 = spam" in answer.err
    found = json.loads(answer.out)
    expected = json.loads((run / "metrics.json").read_text("utf-8"))["splits"]["test"]
    assert found["confusion"] == expected["confusion"]
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)


def test_the_runs_own_test_split_names_its_labels(book_run: tuple[Path, str]) -> None:
    run, _ = book_run
    answer = run_cli("evaluate", run, run / "splits/test.csv")
    assert "label ids" not in answer.err
    assert [line.split("\t")[0] for line in answer.out.splitlines() if "\t" in line] == ["ham", "spam"]


def test_any_other_recipe_reads_all_5574_rows(sms_file: Path, tmp_path: Path) -> None:
    answer = run_cli("split", sms_file, "--out", tmp_path / "splits", "--json")
    assert "ham 4,827, spam 747" in answer.err
    assert sum(json.loads(answer.out)["rows"].values()) == 5574
