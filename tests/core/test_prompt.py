"""Which prompts are valid, and what the settings make of them and of a backbone's own."""

from __future__ import annotations

import pytest

from lasttoken.core.config import Settings
from lasttoken.core.errors import SettingsError
from lasttoken.core.prompt import parts_of
from lasttoken.core.resolve import resolve

OWN = "Message: {text}\nTopic:"


@pytest.mark.parametrize("prompt", ["Topic:", "", "{text} or {text}", "{ text }", "{}"])
def test_a_prompt_has_one_place_for_the_text(prompt: str) -> None:
    with pytest.raises(SettingsError, match=r"--prompt is .*\{text\}"):
        resolve("default", {"prompt": prompt})


def test_other_braces_are_characters() -> None:
    assert parts_of('{"text": "{text}"}') == ('{"text": "', '"}')


@pytest.mark.parametrize("changes", [{"read": "padded-last"}, {"read": "padded-mean"}, {"recipe": "book"}])
def test_a_padded_text_has_no_prompt(changes: dict[str, str]) -> None:
    recipe = changes.pop("recipe", "default")
    with pytest.raises(SettingsError, match="--prompt cannot be combined"):
        resolve(recipe, changes, {"prompt": OWN})
    assert resolve(recipe, changes).with_prompt_of(OWN).template is None
    assert resolve(recipe, changes, {"prompt": "none"}).template is None


def test_the_backbone_s_own_prompt_is_read_unless_another_is_asked_for() -> None:
    assert Settings().with_prompt_of(OWN).template == OWN
    assert Settings().with_prompt_of(None).template is None
    assert Settings(prompt="none").with_prompt_of(OWN).template is None
    assert Settings(prompt="{text}?").with_prompt_of(OWN).template == "{text}?"
    recorded = resolve("default").with_prompt_of(OWN)
    assert resolve("default", recorded.to_toml()) == recorded, "--resume reads it from run.toml"
