"""scripts/pretrain.py: a backbone that loads, and a killed training that ends as if it had not been killed."""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from lasttoken.backbone.pretrained import load_backbone

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "pretrain.py"

pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon (2.9 has)")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("pretrain", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pretrain", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HELD_OUT", 600)
    monkeypatch.setattr(module, "VALIDATION_ROWS", 16)
    return module


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "two", "dogs", "run", "home"]
    draw = np.random.default_rng(0)
    lines = [" ".join(draw.choice(words, 8)) + "." for _ in range(400)]
    text = "\n".join(line + ("\n" if row % 10 == 9 else "") for row, line in enumerate(lines))
    folder = tmp_path / "corpus"
    folder.mkdir()
    with gzip.open(folder / "one.txt.gz", "wt", encoding="utf-8") as file:
        file.write(text)
    return folder


def flags(corpus: Path, work: Path, out: Path) -> list[str]:
    small = "--vocab-size 300 --width 16 --layers 2 --heads 2 --positions 64 --row 32 --rows 4 --batch-texts 8"
    more = "--texts 300 --steps 6 --every 2 --no-bfloat16 --device cpu"
    return [*f"{small} {more}".split(), "--corpus", str(corpus), "--work", str(work), "--out", str(out)]


def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["pretrain.py", *arguments])
    script.main()


def test_it_learns_and_leaves_a_backbone(
    script: ModuleType, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(script, monkeypatch, flags(corpus, tmp_path / "work", tmp_path / "out"))
    backbone = load_backbone(str(tmp_path / "out"))
    assert backbone.config.n_embd == 16
    assert backbone.tokenizer.decode(backbone.tokenizer.encode("the cat sat")) == "the cat sat"
    facts = json.loads((tmp_path / "out" / "pretraining.json").read_text("utf-8"))
    losses = [
        json.loads(line)["validation_loss"]
        for line in (tmp_path / "work" / "log.jsonl").read_text("utf-8").splitlines()
    ]
    assert facts["validation_loss"] == losses[-1] < losses[0]
    assert facts["settings"]["seed"] == 0
    assert str(tmp_path) not in json.dumps(facts)


def test_a_killed_training_goes_on_as_if_it_had_not_been_killed(
    script: ModuleType, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(script, monkeypatch, flags(corpus, tmp_path / "whole", tmp_path / "expected"))
    steps = script.Batches.rows

    def die(self: object, step: int) -> object:
        if step == 5:  # two steps after the last checkpoint but one
            raise KeyboardInterrupt
        return steps(self, step)

    monkeypatch.setattr(script.Batches, "rows", die)
    with pytest.raises(KeyboardInterrupt):
        run(script, monkeypatch, flags(corpus, tmp_path / "work", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(script.Batches, "rows", steps)
    run(script, monkeypatch, flags(corpus, tmp_path / "work", tmp_path / "out"))
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()


def test_other_flags_do_not_go_on_with_a_training(
    script: ModuleType, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(script, monkeypatch, flags(corpus, tmp_path / "work", tmp_path / "out"))
    with pytest.raises(SystemExit, match=r"with another --seed; give the same, or another --work"):
        run(script, monkeypatch, [*flags(corpus, tmp_path / "work", tmp_path / "out"), "--seed", "1"])


def test_a_teacher_is_asked_in_batches_of_any_size(
    script: ModuleType, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "on"]
    fast = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    fast.save_pretrained(tmp_path / "teacher")
    shape = BertConfig(vocab_size=8, hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    BertModel(shape).save_pretrained(tmp_path / "teacher")
    vectors = script.ask_teacher(tmp_path / "teacher", ["the cat sat", "on"] * 51)  # 102 is no round number of rows
    assert vectors.shape == (102, 12)
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(float), axis=1), 1, atol=1e-2)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-2)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-2)


def test_every_text_is_seen_once_in_a_pass(script: ModuleType) -> None:
    class Arguments:
        seed, rows, row, batch_texts, device = 0, 4, 32, 8, "cpu"

    numbers = script.Numbers(
        np.zeros(1000, np.uint16), np.arange(64, dtype=np.uint16), np.ones(64, dtype=np.int64), None
    )
    batches = script.Batches(numbers, Arguments())
    seen = [int(i) for step in range(8) for i in batches.texts(step)[0]]
    assert sorted(seen) == list(range(64))
    assert [int(i) for step in range(8, 16) for i in batches.texts(step)[0]] != seen
