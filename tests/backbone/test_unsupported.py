"""Architectures that cannot be loaded: each is named for what it is, with what loads instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import CONFIG_MAPPING

from lasttoken.backbone.families import FAMILIES, read_config
from lasttoken.backbone.unsupported import INSTEAD, KINDS
from lasttoken.core.errors import BackboneError

NAMES = [name for names in KINDS.values() for name in names.split()]


def test_the_names_are_those_of_transformers_and_none_is_loaded() -> None:
    assert set(NAMES) <= set(CONFIG_MAPPING)
    assert len(set(NAMES)) == len(NAMES)
    assert not set(NAMES) & set(FAMILIES)
    assert set(INSTEAD) <= set(NAMES)
    assert set(INSTEAD.values()) <= set(FAMILIES)


@pytest.mark.parametrize(
    ("model_type", "kind", "instead"),
    [
        ("lfm2", "hybrid", "llama"),
        ("qwen3_5", "hybrid", "qwen3"),
        ("mixtral", "mixture of experts", "mistral"),
        ("bert", "encoder", "modernbert-decoder"),
        ("modernbert", "encoder", "modernbert-decoder"),
        ("gemma3", "images", "nearest that loads is 'gemma3_text'"),
        ("gemma2", "soft-cap", "nearest that loads is 'gemma3_text'"),
        ("t5", "encoder with a decoder", "gpt2"),
        ("phi3", "", "llama"),
    ],
)
def test_an_architecture_is_rejected_for_what_it_is(model_type: str, kind: str, instead: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}), "utf-8")
    with pytest.raises(BackboneError, match=rf"model_type = '{model_type}'.*{kind}.*{instead}"):
        read_config(tmp_path / "config.json")
