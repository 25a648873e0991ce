"""The catalog of backbones agrees with the bundled files and the published models; a wrong name gets near ones."""

from __future__ import annotations

import pytest

from lasttoken.backbone.catalog import BACKBONES, SMOLLM2_Q4, find_backbone, prompt_of
from lasttoken.backbone.gguf.reading import GGUFBackbone
from lasttoken.backbone.pretrained import load_backbone, locate_backbone
from lasttoken.core.errors import BackboneError
from lasttoken.core.prompt import check_prompt
from lasttoken.core.published import PublishedFile

NAMES = {
    "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "smollm2-135m-b16", "smollm2-135m-q4", "smollm2-135m",
    "smollm2-360m", "smollm2-1.7b", "qwen3-0.6b", "qwen3-embedding-0.6b", "llama-3.2-1b", "gemma-3-270m", "olmo2-1b",
    "ettin-17m", "ettin-32m", "ettin-68m", "ettin-150m", "ettin-400m", "ettin-1b",
}  # fmt: skip


def test_the_bundled_entry_describes_its_file(bundled_default: str) -> None:
    entry, path = find_backbone(bundled_default), locate_backbone(bundled_default)
    assert entry.packaged == PublishedFile.of(path)
    decoder = load_backbone(bundled_default).decoder
    assert entry.n_parameters == sum(parameter.numel() for parameter in decoder.parameters())
    facts = GGUFBackbone(path).facts()
    assert facts["licence"] == entry.licence.lower()
    assert (facts["cut_from_blocks"], decoder.config.n_layer) == (30, 16)
    card = (path.parent / "README.md").read_text("utf-8")
    assert SMOLLM2_Q4.wheel
    for fact in (entry.packaged.sha256, SMOLLM2_Q4.wheel.member_sha256, entry.licence, f"{entry.n_parameters:,}"):
        assert fact in card


# Parameters of a tied GPT-2: token and position tables, 12 C^2 + 13 C in each block, the final norm.
@pytest.mark.parametrize("name", ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"])
def test_gpt2_shapes_give_the_published_parameter_counts(name: str) -> None:
    entry = find_backbone(name)
    shape = entry.shape
    assert shape is not None
    tables = (shape.vocab_size + shape.n_positions) * shape.n_embd
    blocks = shape.n_layer * (12 * shape.n_embd**2 + 13 * shape.n_embd)
    assert tables + blocks + 2 * shape.n_embd == entry.n_parameters
    assert shape.n_embd % shape.n_head == 0
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
    places = [entry.hub_id or entry.wheel or entry.packaged for entry in BACKBONES.values()]
    assert len(set(places)) == len(places), "two names of one repository"
    for name, entry in BACKBONES.items():
        assert entry.name == name
        assert entry.licence
        assert f"{round(entry.n_parameters / 1e6):,} million parameters" in entry.description
        assert entry.licence in entry.description
        assert ("gated" in entry.description) == entry.gated == (name in ("llama-3.2-1b", "gemma-3-270m"))
        size = "none, 47 MB in the package" if entry.packaged else entry.size
        assert entry.facts()["download"] == ("unknown" if entry.size == "unknown" else size)


def test_prompts_are_valid_and_found_by_name() -> None:
    prompts = {name: entry.prompt for name, entry in BACKBONES.items()}
    for name, prompt in prompts.items():
        assert prompt_of(name) == prompt
        if prompt is not None:
            check_prompt(prompt, "last")
    assert prompts["smollm2-135m-q4"] is not None
    assert [prompts["gpt2"], prompt_of("./gpt2"), prompt_of("nobody/nothing")] == [None] * 3
    assert prompts["smollm2-135m-b16"] == prompts["smollm2-135m-q4"]


def test_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(
        BackboneError, match=r"no backbone 'gpt2-meduim'; use .*a folder.* or a hub id; did you mean 'gpt2-medium'"
    ):
        find_backbone("gpt2-meduim")
