"""The book's state dict as a GPT-2: every tensor finds its place, under both spellings of the names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lasttoken.backbone.book import read_book_weights
from lasttoken.core.errors import BackboneError, SettingsError

WIDTH, N_LAYER = 8, 2


def state_dict(n_labels: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    state = {"tok_emb.weight": drawn(20, WIDTH), "pos_emb.weight": drawn(6, WIDTH)}
    for layer in range(N_LAYER):
        block = f"trf_blocks.{layer}."
        for name in ("att.W_query", "att.W_key", "att.W_value", "att.out_proj"):
            state[f"{block}{name}.weight"], state[f"{block}{name}.bias"] = drawn(WIDTH, WIDTH), drawn(WIDTH)
        state[f"{block}ff.layers.0.weight"], state[f"{block}ff.layers.0.bias"] = drawn(12, WIDTH), drawn(12)
        state[f"{block}ff.layers.2.weight"], state[f"{block}ff.layers.2.bias"] = drawn(WIDTH, 12), drawn(WIDTH)
        for norm in ("norm1", "norm2"):
            state[f"{block}{norm}.scale"], state[f"{block}{norm}.shift"] = drawn(WIDTH), drawn(WIDTH)
        state[f"{block}att.mask"] = torch.ones(6, 6).triu(1) * -torch.inf
    state["final_norm.scale"], state["final_norm.shift"] = drawn(WIDTH), drawn(WIDTH)
    state["out_head.weight"], state["out_head.bias"] = drawn(n_labels, WIDTH), drawn(n_labels)
    return state


def saved(state: dict[str, Tensor], folder: Path) -> Path:
    torch.save(state, folder / "book.pth")
    return folder / "book.pth"


@pytest.mark.parametrize("spelling", ["code", "summary"])
def test_every_tensor_finds_its_place(spelling: str, tmp_path: Path) -> None:
    state = given = state_dict()
    if spelling == "summary":
        names = {"tok_emb.": "token_emb.", "pos_emb.": "position_emb.", "trf_blocks.": "transformer_blocks."}
        given = {
            next((other + name.removeprefix(own) for own, other in names.items() if name.startswith(own)), name): tensor
            for name, tensor in state.items()
        }
    weights = read_book_weights(saved(given, tmp_path), n_head=2)
    found = weights.decoder.state_dict()
    assert (weights.decoder.config.n_layer, weights.decoder.config.n_head) == (N_LAYER, 2)
    assert torch.equal(found["wpe.weight"], state["pos_emb.weight"])
    assert torch.equal(found["h.1.mlp.c_proj.weight"], state["trf_blocks.1.ff.layers.2.weight"])
    assert torch.equal(found["h.0.ln_2.bias"], state["trf_blocks.0.norm2.shift"])
    keys = slice(WIDTH, 2 * WIDTH)
    assert torch.equal(found["h.1.attn.c_attn.weight"][keys], state["trf_blocks.1.att.W_key.weight"])
    assert torch.equal(found["h.1.attn.c_attn.bias"][keys], state["trf_blocks.1.att.W_key.bias"])
    assert torch.equal(weights.head_weight, state["out_head.weight"])
    assert torch.equal(weights.head_bias, state["out_head.bias"])


def test_absent_biases_are_zeros(tmp_path: Path) -> None:
    state = {
        name: tensor
        for name, tensor in state_dict().items()
        if name != "out_head.bias" and not (".W_" in name and name.endswith("bias"))
    }
    weights = read_book_weights(saved(state, tmp_path), n_head=2)
    assert not weights.head_bias.any()
    assert not weights.decoder.get_parameter("h.0.attn.c_attn.bias").any()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"out_head.weight": torch.zeros(2, 5)}, "5 inputs"),
        ({"out_head.bias": torch.zeros(3)}, "bias of 3"),
        ({"final_norm.scale": torch.full((WIDTH,), torch.nan)}, "final_norm.scale holds NaN"),
        ({"trf_blocks.0.att.W_query.weight": torch.zeros(WIDTH, 3)}, "do not fit each other"),
        ({"extra.weight": torch.zeros(1)}, "extra.weight"),
    ],
)
def test_a_tensor_of_another_model_is_named(change: dict[str, Tensor], named: str, tmp_path: Path) -> None:
    with pytest.raises(BackboneError) as caught:
        read_book_weights(saved(state_dict() | change, tmp_path), n_head=2)
    assert named in str(caught.value)


def test_the_number_of_heads_is_required_if_the_width_is_not_one_of_gpt2s(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"8 channels.*768.*--heads"):
        read_book_weights(saved(state_dict(), tmp_path))
    with pytest.raises(SettingsError, match=r"--heads is 3"):
        read_book_weights(saved(state_dict(), tmp_path), n_head=3)
