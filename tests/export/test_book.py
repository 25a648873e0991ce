"""The book's own saved weights: the chapter's computation, written out, gives the logits of the run made of them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniature import N_SMALL_TOKENS, run_cli, small_tokenizer
from torch import Tensor

from lasttoken.backbone.book import HEADS
from lasttoken.classifier.predict import Predictor

N_EMBD, N_HEAD, N_LAYER, N_POSITIONS = 32, 4, 2, 24


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(small_tokenizer().to_json(), "utf-8")
    return folder


def book_state(seed: int = 1, with_bias: bool = True, n_labels: int = 2) -> dict[str, Tensor]:
    """A state dict as the chapter's GPTModel has it, of random numbers."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        values: Tensor = torch.randn(shape, generator=generator) * N_EMBD**-0.5
        return values

    state = {"tok_emb.weight": drawn(N_SMALL_TOKENS, N_EMBD), "pos_emb.weight": drawn(N_POSITIONS, N_EMBD)}
    for at in range(N_LAYER):
        block = f"trf_blocks.{at}."
        for one in ("query", "key", "value"):
            state[f"{block}att.W_{one}.weight"] = drawn(N_EMBD, N_EMBD)
            if with_bias:
                state[f"{block}att.W_{one}.bias"] = drawn(N_EMBD)
        state[f"{block}att.out_proj.weight"], state[f"{block}att.out_proj.bias"] = drawn(N_EMBD, N_EMBD), drawn(N_EMBD)
        state[f"{block}att.mask"] = torch.triu(torch.ones(N_POSITIONS, N_POSITIONS), 1)
        state[f"{block}ff.layers.0.weight"], state[f"{block}ff.layers.0.bias"] = (
            drawn(4 * N_EMBD, N_EMBD),
            drawn(4 * N_EMBD),
        )
        state[f"{block}ff.layers.2.weight"], state[f"{block}ff.layers.2.bias"] = (
            drawn(N_EMBD, 4 * N_EMBD),
            drawn(N_EMBD),
        )
        for norm in ("norm1", "norm2"):
            state[f"{block}{norm}.scale"], state[f"{block}{norm}.shift"] = 1 + drawn(N_EMBD), drawn(N_EMBD)
    state["final_norm.scale"], state["final_norm.shift"] = 1 + drawn(N_EMBD), drawn(N_EMBD)
    state["out_head.weight"], state["out_head.bias"] = drawn(n_labels, N_EMBD), drawn(n_labels)
    return state


def book_logits(state: dict[str, Tensor], ids: Tensor) -> Tensor:
    """The chapter's model, [B, T] -> [B, K] at the last position."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return state[f"{name}.scale"] * (x - mean) / torch.sqrt(var + 1e-5) + state[f"{name}.shift"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].t() + state.get(f"{name}.bias", torch.zeros(()))

    n_texts, n_tokens = ids.shape
    x = state["tok_emb.weight"][ids] + state["pos_emb.weight"][:n_tokens]
    for at in range(N_LAYER):
        block = f"trf_blocks.{at}."
        y = norm(x, f"{block}norm1")
        q, k, v = (
            linear(y, f"{block}att.W_{one}").view(n_texts, n_tokens, N_HEAD, -1).transpose(1, 2)
            for one in ("query", "key", "value")
        )
        scores = (q @ k.transpose(2, 3)).masked_fill(state[f"{block}att.mask"].bool()[:n_tokens, :n_tokens], -torch.inf)
        y = (torch.softmax(scores / k.shape[-1] ** 0.5, -1) @ v).transpose(1, 2).reshape(n_texts, n_tokens, -1)
        x = x + linear(y, f"{block}att.out_proj")
        y = linear(norm(x, f"{block}norm2"), f"{block}ff.layers.0")
        y = 0.5 * y * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3)))
        x = x + linear(y, f"{block}ff.layers.2")
    return linear(norm(x, "final_norm"), "out_head")[:, -1]


def bring_in(file: Path, out: Path, tokenizer: Path, *flags: object) -> Any:
    standard = {"--heads": N_HEAD, "--max-length": 20, "--tokenizer": tokenizer}
    given = [part for flag, value in standard.items() if flag not in flags for part in (flag, value)]
    return run_cli("import", file, "--out", out, *given, *flags)


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_run_gives_the_chapter_s_logits(with_bias: bool, tokenizer: Path, tmp_path: Path) -> None:
    state = book_state(with_bias=with_bias)
    torch.save(state, tmp_path / "review_classifier.pth")
    answer = bring_in(tmp_path / "review_classifier.pth", tmp_path / "run", tokenizer, "--labels", "not spam,spam")
    assert answer.code == 0, answer.err
    assert "no metrics" in answer.err
    texts = ["win the prize", "a", "the thing in the end is much longer than it may be"]
    predictor = Predictor.load(tmp_path / "run", "cpu")
    assert predictor.labels == ("not spam", "spam")
    rows = [(ids[:20] + [N_SMALL_TOKENS - 1] * (20 - len(ids))) for ids in small_tokenizer().encode_many(texts)]
    found = predictor.logits(predictor.encode(texts))
    np.testing.assert_allclose(found, book_logits(state, torch.tensor(rows)).numpy(), atol=1e-5)
    assert run_cli("info", tmp_path / "run").code == 0
    assert run_cli("predict", tmp_path / "run", "win").code == 0


class Evil:
    """What a pickle may hold: a call that happens when it is opened."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("opened"),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.zeros(2)}, "it has no tensor"),
        ({**book_state(), "x": Evil()}, "holds more than tensors"),
        ([1, 2], "is not a state dict of the book's GPTModel"),
        (
            {name: tensor for name, tensor in book_state().items() if name != "out_head.weight"},
            "no tensor out_head.weight",
        ),
        ({name: tensor for name, tensor in book_state().items() if name != "trf_blocks.1.norm2.shift"}, "norm2.shift"),
        (
            {**book_state(), "trf_blocks.0.ff.layers.2.weight": torch.zeros(3, 3)},
            "h.0.mlp.c_proj.weight has shape (3, 3)",
        ),
        ({**book_state(), "tok_emb.weight": torch.zeros(3)}, "two dimensions"),
        ({**book_state(), "out_head.weight": torch.zeros(())}, "two dimensions"),
        ({**book_state(), "trf_blocks.0.att.W_key.weight": torch.zeros(5)}, "do not fit each other"),
        ({**book_state(), f"trf_blocks.{'9' * 5000}.x": torch.zeros(5)}, "trf_blocks.999"),
        (book_state(n_labels=3), "--labels names 2 labels, and the head of"),
    ],
)
def test_what_is_no_such_file(
    content: Any, message: str, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "a.pth")
    answer = bring_in(tmp_path / "a.pth", tmp_path / "run", tokenizer)
    assert answer.code == 2, answer.err
    assert message in answer.err
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "opened").exists()


def test_files_of_older_torches(tokenizer: Path, tmp_path: Path) -> None:
    torch.save(book_state(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert bring_in(tmp_path / "old.pth", tmp_path / "run", tokenizer).code == 0


def test_torn_plain_and_missing_files(tokenizer: Path, tmp_path: Path) -> None:
    torch.save(book_state(), tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "torn.pth").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.pth").write_text("no tensors here")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("torn.pth", "text.pth", "evil.pth", "missing.pth"):
        answer = bring_in(tmp_path / name, tmp_path / "run", tokenizer)
        assert answer.code == 2, answer.err
        assert name in answer.err
        assert len(answer.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--heads", 5], "--heads is 5, which does not divide the 32 channels"),
        (["--max-length", 100], "--max-length is 100, but the backbone has 24"),
        (["--max-length", 0], "--max-length is 0"),
        (["--labels", "spam,spam"], "--labels names 1 labels"),
    ],
)
def test_settings_that_do_not_fit(flags: list[Any], message: str, tokenizer: Path, tmp_path: Path) -> None:
    torch.save(book_state(), tmp_path / "a.pth")
    answer = bring_in(tmp_path / "a.pth", tmp_path / "run", tokenizer, *flags)
    assert answer.code == 2, answer.err
    assert message in answer.err


def test_a_width_that_is_not_gpt2s_needs_heads(tokenizer: Path, tmp_path: Path) -> None:
    torch.save(book_state(), tmp_path / "a.pth")
    answer = run_cli(
        "import", tmp_path / "a.pth", "--out", tmp_path / "run", "--max-length", 20, "--tokenizer", tokenizer
    )
    assert answer.code == 2, answer.err
    assert "--heads" in answer.err
    assert str(N_EMBD) in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("heads", [0, -4, 3, 64])
def test_heads_that_do_not_divide_the_width_are_rejected(heads: int, tokenizer: Path, tmp_path: Path) -> None:
    torch.save(book_state(), tmp_path / "a.pth")
    answer = bring_in(tmp_path / "a.pth", tmp_path / "run", tokenizer, "--heads", heads)
    assert answer.code == 2, answer.err
    assert f"--heads is {heads}" in answer.err


def test_the_heads_of_the_published_widths_are_known() -> None:
    assert HEADS == {768: 12, 1024: 16, 1280: 20, 1600: 25}


def test_the_names_of_the_chapter_s_summary_give_the_same_run(tokenizer: Path, tmp_path: Path) -> None:
    state = book_state()
    names = {"tok_emb": "token_emb", "pos_emb": "position_emb", "trf_blocks": "transformer_blocks"}
    torch.save(state, tmp_path / "a.pth")
    torch.save(
        {".".join([names.get(first, first), *rest]): tensor for (first, *rest), tensor in (
            (name.split("."), tensor) for name, tensor in state.items()
        )},
        tmp_path / "b.pth",
    )  # fmt: skip
    for name in ("a", "b"):
        answer = bring_in(tmp_path / f"{name}.pth", tmp_path / name, tokenizer)
        assert answer.code == 0, answer.err
    found = [Predictor.load(tmp_path / name, "cpu").predict(["win the prize"])[0].probs for name in ("a", "b")]
    assert found[0] == found[1]


def test_book_weights_that_are_not_finite_are_named(tokenizer: Path, tmp_path: Path) -> None:
    state = book_state()
    state["trf_blocks.1.att.W_key.weight"][0, 0] = float("nan")
    torch.save(state, tmp_path / "a.pth")
    answer = bring_in(tmp_path / "a.pth", tmp_path / "run", tokenizer)
    assert answer.code == 2, answer.err
    assert "trf_blocks.1.att.W_key.weight" in answer.err
    assert not (tmp_path / "run").exists()
