"""The catalog of backbones agrees with the bundled files and the published models; a wrong name gets near ones."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from lasttoken.backbone.catalog import BACKBONES, find_backbone, prompt_of
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.core.errors import BackboneError
from lasttoken.core.prompt import check_prompt

NAMES = {
    "pocket", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "smollm2-135m-q4", "smollm2-135m", "smollm2-360m",
    "smollm2-1.7b", "qwen3-0.6b", "qwen3-embedding-0.6b", "llama-3.2-1b", "gemma-3-270m", "olmo2-1b", "ettin-17m",
    "ettin-32m", "ettin-68m", "ettin-150m", "ettin-400m", "ettin-1b",
}  # fmt: skip


def test_pocket_entry_describes_the_bundled_folder() -> None:
    """The folder that the name loads, and its weights: a config.json of another backbone would not go unnoticed."""
    config = json.loads((files("lasttoken") / "pocket" / "config.json").read_text("utf-8"))
    entry, decoder = find_backbone("pocket"), load_backbone("pocket").decoder
    assert entry.shape is not None
    for name in ("n_embd", "n_layer", "n_head", "n_positions", "vocab_size"):
        assert getattr(entry.shape, name) == config[name] == getattr(decoder.config, name), name
    assert entry.n_parameters == sum(parameter.numel() for parameter in decoder.parameters())
    assert entry.hub_id is None
    assert entry.wheel is None
    assert entry.max_length == 256 < entry.shape.n_positions
    card = (files("lasttoken") / "pocket" / "README.md").read_text("utf-8")
    assert f"license: {entry.licence.lower()}" in card


# Parameters of a tied GPT-2: token and position tables, 12 C^2 + 13 C in each block, the final norm.
@pytest.mark.parametrize("name", ["pocket", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"])
def test_gpt2_shapes_give_the_published_parameter_counts(name: str) -> None:
    entry = find_backbone(name)
    shape = entry.shape
    assert shape is not None
    tables = (shape.vocab_size + shape.n_positions) * shape.n_embd
    blocks = shape.n_layer * (12 * shape.n_embd**2 + 13 * shape.n_embd)
    assert tables + blocks + 2 * shape.n_embd == entry.n_parameters
    assert shape.n_embd % shape.n_head == 0
    if name != "pocket":
        assert shape.n_embd // shape.n_head == 64
        assert entry.hub_id == f"openai-community/{name}"


# As published: vocabulary, width, blocks, width of queries, of keys and values, of the MLP; all but OLMo 2 are tied.
SHAPES = {
    "smollm2-135m": (49_152, 576, 30, 576, 192, 1536),
    "smollm2-360m": (49_152, 960, 32, 960, 320, 2560),
    "smollm2-1.7b": (49_152, 2048, 24, 2048, 2048, 8192),
    "qwen3-0.6b": (151_936, 1024, 28, 2048, 1024, 3072),
    "qwen3-embedding-0.6b": (151_669, 1024, 28, 2048, 1024, 3072),
    "llama-3.2-1b": (128_256, 2048, 16, 2048, 512, 8192),
    "gemma-3-270m": (262_144, 640, 18, 1024, 256, 2048),
    "olmo2-1b": (100_352, 2048, 16, 2048, 2048, 8192),
}
NORMS = {
    "qwen3-0.6b": 2 * 128,
    "qwen3-embedding-0.6b": 2 * 128,
    "gemma-3-270m": 2 * 640 + 2 * 256,
    "olmo2-1b": 2 * 2048,
}


@pytest.mark.parametrize("name", SHAPES)
def test_parameter_counts_follow_from_the_published_shapes(name: str) -> None:
    vocab_size, width, n_layer, queries, keys, inner = SHAPES[name]
    block = 2 * width * (queries + keys) + 3 * width * inner + 2 * width + NORMS.get(name, 0)
    tables = vocab_size * width * (2 if name == "olmo2-1b" else 1)
    assert find_backbone(name).n_parameters == tables + n_layer * block + width


def test_every_backbone_has_its_own_place_and_says_what_it_is() -> None:
    assert BACKBONES.keys() == NAMES
    places = [entry.hub_id or entry.wheel for entry in BACKBONES.values()]
    assert len(set(places)) == len(places), "two names of one repository"
    for name, entry in BACKBONES.items():
        assert entry.name == name
        assert entry.licence
        assert f"{round(entry.n_parameters / 1e6):,} million parameters" in entry.description
        assert entry.licence in entry.description
        assert ("gated" in entry.description) == entry.gated == (name in ("llama-3.2-1b", "gemma-3-270m"))
        assert entry.facts()["download"] == ("unknown" if entry.download_bytes is None else entry.size)


def test_prompts_are_valid_and_found_by_name() -> None:
    prompts = {name: entry.prompt for name, entry in BACKBONES.items()}
    for name, prompt in prompts.items():
        assert prompt_of(name) == prompt
        if prompt is not None:
            check_prompt(prompt, "last")
    assert prompts["smollm2-135m-q4"] is not None
    assert [prompts["pocket"], prompts["gpt2"], prompt_of("./pocket"), prompt_of("nobody/nothing")] == [None] * 4


def test_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(
        BackboneError, match=r"no backbone 'gpt2-meduim'; use .*a folder.* or a hub id; did you mean 'gpt2-medium'"
    ):
        find_backbone("gpt2-meduim")
