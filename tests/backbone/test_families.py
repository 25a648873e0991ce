"""The family of a config.json: found by its model_type, or one sentence about what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniature import random_gpt

from lasttoken.backbone.families import FAMILIES, family_of, named_family, read_config
from lasttoken.core.errors import BackboneError


def test_a_family_is_registered_under_its_own_name() -> None:
    assert all(family.model_type == model_type for model_type, family in FAMILIES.items())


def test_the_family_of_a_config_writes_what_it_reads(tmp_path: Path) -> None:
    config = random_gpt().config
    content = family_of(config).write_config(config)
    (tmp_path / "config.json").write_text(json.dumps(content), "utf-8")
    assert read_config(tmp_path / "config.json") == (config, content)


@pytest.mark.parametrize("model_type", ["bert", "lfm2", "", "GPT2", None, 5, ["gpt2"], {"gpt2": 1}])
def test_another_architecture_is_named_with_those_that_load(model_type: object, tmp_path: Path) -> None:
    assert named_family({"model_type": model_type}) is None
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}), "utf-8")
    with pytest.raises(BackboneError, match=r"config\.json has model_type = .*'gpt2'"):
        read_config(tmp_path / "config.json")


def test_early_files_without_a_model_type_are_gpt2s() -> None:
    assert named_family({}) is FAMILIES["gpt2"]


def test_a_missing_file_is_named_with_what_a_folder_holds(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"config\.json is missing.*model\.safetensors and tokenizer\.json"):
        read_config(tmp_path / "config.json")


@pytest.mark.parametrize("content", [b"", b'{"model_type": "gpt2"', b"[1, 2]", b"\xff\xfe\x00"])
def test_a_file_that_is_not_a_json_object_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(BackboneError, match=r"config\.json"):
        read_config(tmp_path / "config.json")
