"""The catalog of backbones agrees with the bundled files and the published models; a wrong name gets near ones."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from lasttoken.backbone.catalog import BACKBONES, find_backbone
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.core.errors import BackboneError


def test_pocket_entry_describes_the_bundled_folder() -> None:
    """The folder that the name loads, and its weights: a config.json of another backbone would not go unnoticed."""
    config = json.loads((files("lasttoken") / "pocket" / "config.json").read_text("utf-8"))
    entry, decoder = find_backbone("pocket"), load_backbone("pocket").decoder
    for name in ("n_embd", "n_layer", "n_head", "n_positions", "vocab_size"):
        assert getattr(entry, name) == config[name] == getattr(decoder.config, name), name
    assert entry.hub_id is None
    assert entry.max_length == 256 < entry.n_positions


# Parameters of a tied GPT-2: token and position tables, 12 C^2 + 13 C in each block, the final norm.
@pytest.mark.parametrize(
    ("name", "millions"), [("gpt2", 124), ("gpt2-medium", 355), ("gpt2-large", 774), ("gpt2-xl", 1558)]
)
def test_gpt2_shapes_give_the_published_parameter_counts(name: str, millions: int) -> None:
    entry = find_backbone(name)
    tables = (entry.vocab_size + entry.n_positions) * entry.n_embd
    blocks = entry.n_layer * (12 * entry.n_embd**2 + 13 * entry.n_embd)
    assert round((tables + blocks + 2 * entry.n_embd) / 1e6) == millions
    assert f"{millions:,} million" in entry.description
    assert entry.n_embd // entry.n_head == 64
    assert entry.hub_id == f"openai-community/{name}"


def test_every_backbone_has_its_own_place_and_can_be_computed() -> None:
    places = [entry.hub_id for entry in BACKBONES.values()]
    assert len(set(places)) == len(places), "two names of one repository"
    for name, entry in BACKBONES.items():
        assert entry.name == name
        assert entry.n_embd % entry.n_head == 0
        assert 1 <= entry.max_length <= entry.n_positions


def test_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(
        BackboneError, match=r"no backbone 'gpt2-meduim'; did you mean 'gpt2-medium'.*a folder, or a hub id"
    ):
        find_backbone("gpt2-meduim")
