"""Drawn weights: chapter 6's to the last bit, GPT-2's by their deviations, and nothing but a tokenizer is needed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from miniature import N_SMALL_TOKENS, random_gpt, small_tokenizer, write_backbone
from rotary_miniatures import ROTARY_MINIATURES
from torch import Tensor, nn

from lasttoken.backbone import pretrained
from lasttoken.backbone.catalog import BACKBONES, Shape
from lasttoken.backbone.decoder import DecoderConfig
from lasttoken.backbone.gpt2.network import GPT2, GPT2Config
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.pretrained import count_blocks, load_backbone
from lasttoken.backbone.random_weights import RandomWeights, draw_decoder
from lasttoken.core.errors import BackboneError, NetworkError, SettingsError

CONFIG = GPT2Config(vocab_size=N_SMALL_TOKENS, n_positions=16, n_embd=24, n_layer=3, n_head=3)
HERE = Path("here")


class BookBlock(nn.Module):
    """A block with the layers that draw numbers, made in the script's order."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width, bias=True) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class BookModel(nn.Module):
    """The script's GPTModel, as far as it draws numbers."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = nn.Embedding(config.n_positions, config.n_embd)
        self.blocks = nn.Sequential(*[BookBlock(config.n_embd) for _ in range(config.n_layer)])
        self.output = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def published(self) -> dict[str, Tensor]:
        """Its tensors under GPT-2's names, linear weights [out, in]."""
        state = {"wte.weight": self.tokens.weight, "wpe.weight": self.positions.weight}
        for at, block in enumerate(self.blocks):
            assert isinstance(block, BookBlock)
            parts = (block.query, block.key, block.value)
            for kind in ("weight", "bias"):
                state[f"h.{at}.attn.c_attn.{kind}"] = torch.cat([getattr(part, kind) for part in parts])
                state[f"h.{at}.attn.c_proj.{kind}"] = getattr(block.out, kind)
                state[f"h.{at}.mlp.c_fc.{kind}"] = getattr(block.mlp[0], kind)
                state[f"h.{at}.mlp.c_proj.{kind}"] = getattr(block.mlp[2], kind)
        return state


@pytest.mark.parametrize("seed", [123, 7])
def test_the_book_s_weights_are_those_of_the_script_s_constructor(seed: int) -> None:
    before = torch.random.get_rng_state()
    state = draw_decoder(CONFIG, RandomWeights("book", seed), HERE).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before), "the global generator is someone else's"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected = BookModel(CONFIG).published()
    norms = {name for name in state if ".ln_" in name or name.startswith("ln_f")}
    assert set(state) == {*expected, *norms}
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name
    for name in norms:
        assert torch.equal(state[name], torch.full_like(state[name], float(name.endswith("weight")))), name


def test_the_book_s_weights_are_for_gpt2_alone() -> None:
    config = next(iter(ROTARY_MINIATURES.values()))
    with pytest.raises(SettingsError, match=r"--random-weights book .* use --random-weights gpt2"):
        draw_decoder(config, RandomWeights("book", 1), HERE)


@pytest.mark.parametrize("config", [CONFIG, *ROTARY_MINIATURES.values()], ids=lambda config: config.model_type)
def test_every_family_can_be_drawn_and_computes(config: DecoderConfig) -> None:
    decoder = draw_decoder(config, RandomWeights("gpt2", 5), HERE)
    hidden = decoder(torch.arange(9) % config.vocab_size, Packing([4, 5]))
    assert hidden.isfinite().all()
    assert hidden.std() > 0
    again = draw_decoder(config, RandomWeights("gpt2", 5), HERE).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in decoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in decoder.parameters())
    assert float(decoder.token_embedding.std()) == pytest.approx(0.02, rel=0.1)


def test_gpt2_s_projections_into_the_residual_stream_are_smaller() -> None:
    config = GPT2Config(vocab_size=500, n_positions=64, n_embd=64, n_layer=8, n_head=4)
    state = draw_decoder(config, RandomWeights("gpt2", 1), HERE).state_dict()
    assert float(state["h.3.mlp.c_fc.weight"].std()) == pytest.approx(0.02, rel=0.03)
    assert float(state["h.3.mlp.c_proj.weight"].std()) == pytest.approx(0.02 / math.sqrt(16), rel=0.03)
    assert torch.equal(
        GPT2(config).init_weights(1).state_dict()["h.7.mlp.c_proj.weight"], state["h.7.mlp.c_proj.weight"]
    )


def test_a_folder_needs_no_weights_and_a_depth_keeps_the_first_blocks(tmp_path: Path) -> None:
    folder = write_backbone(tmp_path / "shape", random_gpt(n_layer=3))
    (folder / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match="safetensors"):
        load_backbone(str(folder))
    whole = load_backbone(str(folder), random_weights=RandomWeights("book", 123))
    cut = load_backbone(str(folder), depth=2, random_weights=RandomWeights("book", 123))
    assert whole.name == f"{folder} with random weights (book)"
    assert (len(whole.decoder.blocks), len(cut.decoder.blocks)) == (3, 2)
    for name, tensor in cut.decoder.state_dict().items():
        assert torch.equal(tensor, whole.decoder.state_dict()[name])
    assert count_blocks(str(folder), with_weights=False) == 3


def hub_with(names: list[str], folder: Path, asked: list[tuple[str, bool]]) -> object:
    """In place of the hub: it holds the tokenizers of these backbones."""

    def fetch(name: str, *, offline: bool, show_progress: object, with_weights: bool = True) -> Path:
        asked.append((name, with_weights))
        if name not in names:
            raise NetworkError(f"{name} is not in the cache")
        return folder

    return fetch


def test_a_gpt2_of_the_catalog_has_its_shape_and_the_tokenizer_of_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, asked = tmp_path / "cache", list[tuple[str, bool]]()
    folder.mkdir()
    (folder / "tokenizer.json").write_text(small_tokenizer().to_json(), "utf-8")
    (folder / "config.json").write_text(json.dumps({"not": "read"}), "utf-8")
    shape = Shape(n_embd=16, n_layer=2, n_head=2, n_positions=64, vocab_size=N_SMALL_TOKENS)
    monkeypatch.setitem(BACKBONES, "gpt2-xl", replace_shape("gpt2-xl", shape))
    monkeypatch.setattr(pretrained, "fetch_backbone", hub_with(["gpt2-medium"], folder, asked))
    found = load_backbone("gpt2-xl", random_weights=RandomWeights("gpt2", 1))
    assert (found.config.n_embd, found.config.n_layer, found.max_length) == (16, 2, 64)
    assert [name for name, _ in asked] == ["gpt2-xl", "gpt2", "gpt2-medium"]
    assert not any(with_weights for _, with_weights in asked)
    assert count_blocks("gpt2-xl", with_weights=False) == 2
    monkeypatch.setattr(pretrained, "fetch_backbone", hub_with([], folder, asked))
    with pytest.raises(NetworkError, match="gpt2-xl is not in the cache"):
        load_backbone("gpt2-xl", random_weights=RandomWeights("gpt2", 1))


def replace_shape(name: str, shape: Shape) -> object:
    from dataclasses import replace

    return replace(BACKBONES[name], shape=shape)
