"""From flags, a configuration file and a recipe to checked settings.

flag  ──wins over──►  --config FILE  ──wins over──►  the recipe  ──wins over──►  the default of the field

The default of `backbone` can be set in the environment, see default_backbone.py.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lasttoken.core.checks import check_settings
from lasttoken.core.config import FIELDS, Settings, flag_of
from lasttoken.core.default_backbone import default_backbone
from lasttoken.core.errors import SettingsError, nearest, one_of
from lasttoken.core.lora import implied_by_lora
from lasttoken.core.method import with_implied
from lasttoken.core.recipes import RECIPES
from lasttoken.core.setting import typed


def resolve(recipe: str = "default", *layers: Mapping[str, Any]) -> Settings:
    """The settings of a recipe with layers of changes on top, later ones winning. None means "not set".

    >>> resolve("book", {"epochs": 2}, {"epochs": None}).epochs
    2

    Raises:
        SettingsError: an unknown recipe or setting, or an invalid value.
    """
    if not isinstance(recipe, str) or recipe not in RECIPES:
        raise SettingsError(f"--recipe is {recipe!r}; use one of {one_of(RECIPES)}{nearest(str(recipe), RECIPES)}")
    given: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            if value is None or name == "recipe":
                continue
            if name not in FIELDS:
                raise SettingsError(f"there is no setting {name!r}{nearest(name, FIELDS)}")
            given[name] = typed(flag_of(name), value, FIELDS[name])
    merged = {"backbone": default_backbone(), "recipe": recipe, **RECIPES[recipe], **implied_by_lora(given), **given}
    settings = replace(Settings(), **with_implied(merged))
    check_settings(settings)
    return settings


def resolve_layers(*layers: Mapping[str, Any]) -> Settings:
    """As `resolve`, with the recipe that the last layer names; without one the default recipe.

    >>> resolve_layers({"recipe": "book", "epochs": 2}, {"epochs": 3}).recipe
    'book'

    Raises:
        SettingsError: as `resolve`.
    """
    recipes = [layer["recipe"] for layer in layers if layer.get("recipe")]
    return resolve(recipes[-1] if recipes else "default", *layers)


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a TOML file: at its top level, or under `[settings]` as in a run's `run.toml`.

    A path named `data` may stand beside them. Dashes and underscores in names are the same.

    Raises:
        SettingsError: no such file, not TOML, or an unknown setting.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise SettingsError(f"--config: there is no file {path}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"--config: {path} cannot be read as TOML: {error}") from error
    values = content.get("settings", content)
    if not isinstance(values, dict):
        raise SettingsError(f"--config: [settings] in {path} must be a table")
    values = {name.replace("-", "_"): value for name, value in values.items()}
    known = {*FIELDS, "data"}
    for name in values:
        if name not in known:
            raise SettingsError(f"--config: {path} sets {name!r}, which is not a setting{nearest(name, known)}")
    if not isinstance(values.get("data", ""), str):
        raise SettingsError(f"--config: {path} sets data to {values['data']!r}; it must be a path")
    return values
