"""The registered families, and the family of a config.json. A new one is a line in `FAMILIES`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lasttoken.backbone.decoder import DecoderConfig
from lasttoken.backbone.family import Family
from lasttoken.backbone.gpt2.family import GPT2_FAMILY
from lasttoken.backbone.rotary.families import ROTARY_FAMILIES
from lasttoken.backbone.unsupported import describe_unsupported
from lasttoken.core.documents import load_json
from lasttoken.core.errors import BackboneError, one_of, short_repr

FAMILIES: dict[str, Family] = {family.model_type: family for family in (GPT2_FAMILY, *ROTARY_FAMILIES)}
UNNAMED = GPT2_FAMILY.model_type  # early config.json files of GPT-2 have no model_type


def family_of(config: DecoderConfig) -> Family:
    """The family that a config belongs to."""
    return FAMILIES[config.model_type]


def named_family(content: dict[str, Any]) -> Family | None:
    """The family that the content of a config.json names; None: it is not one of ours."""
    model_type = content.get("model_type", UNNAMED)
    return FAMILIES.get(model_type) if isinstance(model_type, str) else None


def read_config(path: Path) -> tuple[DecoderConfig, dict[str, Any]]:
    """The config in a `config.json`, and the file's whole content. Its dropout is ignored.

    Raises:
        BackboneError: the file is missing, is not JSON, names another architecture, or has a value that the
            family cannot compute.
    """
    try:
        content = load_json(path, BackboneError)
    except FileNotFoundError as error:
        raise BackboneError(
            f"{path} is missing; a backbone folder holds config.json, model.safetensors and tokenizer.json"
        ) from error
    return config_of(content, path), content


def config_of(content: dict[str, Any], path: Path) -> DecoderConfig:
    """The config in the content of a `config.json`; `path` is for messages.

    Raises:
        BackboneError: it names another architecture, or has a value that the family cannot compute.
    """
    family = named_family(content)
    if family is None:
        raise BackboneError(
            f"{path} has model_type = {short_repr(content['model_type'])}"
            f"{describe_unsupported(content['model_type'])}; this architecture cannot be loaded, "
            f"use one of {one_of(FAMILIES)}"
        )
    return family.read_config(content, path)


def blocks_named(content: dict[str, Any], path: Path) -> int | None:
    """The number of blocks in the content of a config.json; None: it names no architecture.

    Raises:
        BackboneError: see `read_config`.
    """
    return config_of(content, path).n_layer if "model_type" in content else None


def end_of_text(family: Family, content: dict[str, Any], path: Path) -> str | int:
    """The token that ends a text, or its id: what the family says, otherwise `eos_token_id` in a config.json.

    If config.json has a list of them, the first one counts.

    Raises:
        BackboneError: config.json has no such id.
    """
    if family.end_of_text is not None:
        return family.end_of_text
    value = content.get("eos_token_id")
    token_id = value[0] if isinstance(value, list) and value else value
    if type(token_id) is not int or token_id < 0:
        raise BackboneError(
            f"{path} has eos_token_id = {short_repr(value)}; it must be the id of the token that ends a text, "
            "so fetch the file again"
        )
    return token_id
