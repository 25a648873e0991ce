"""The settings that a search tries: the default ones are among them, and what is given is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lasttoken.core.config import Settings
from lasttoken.core.errors import SettingsError
from lasttoken.runs.search.space import Choice, Range, Space, check_leaves_something, search_space

TAIL = Settings(
    method="tail",
    depth="14",
    train_blocks="2",
    read="last+mean",
    learning_rate=4e-4,
    epochs=4,
    batch_size=16,
    start_head="linear",
    keep="last",
)
LINEAR = Settings(method="linear", depth="12", train_blocks="head", read="mean")


def space(*given: str, **changes: object) -> Space:
    tail = replace(TAIL, **changes)  # type: ignore[arg-type]
    return search_space({"tail": tail, "linear": LINEAR}, given, 16, [10, 12, 16], 400)


def test_the_default_parameters_are_the_default_settings() -> None:
    whole = space()
    assert whole.settings(whole.parameters_of("tail")) == TAIL
    assert whole.settings(whole.parameters_of("linear")) == LINEAR
    for method in whole.rungs:
        for name, value in whole.parameters_of(method).items():
            parameter = whole.parameters[method].get(name)
            assert parameter is None or _allows(parameter, value), name


def _allows(parameter: Choice | Range, value: str | int | float) -> bool:
    if isinstance(parameter, Choice):
        return value in parameter.values
    return parameter.low <= float(value) <= parameter.high


def test_the_depth_of_a_tail_is_its_frozen_and_trained_blocks_as_far_as_there_are_blocks() -> None:
    whole = space()
    assert whole.cuts == (8, 10, 12, 14)
    parameters = {**whole.parameters_of("tail"), "frozen": 10, "train_blocks": 3}
    settings = whole.settings(parameters)
    assert (settings.depth, settings.train_blocks) == ("13", "3")
    settings = whole.settings({**parameters, "frozen": 14, "train_blocks": 4})
    assert (settings.depth, settings.train_blocks) == ("16", "2")


def test_what_is_given_leaves_the_space() -> None:
    part = space("learning_rate", "read", "depth")
    assert not {"learning_rate", "read", "frozen", "depth"} & set(part.parameters["tail"])
    assert part.cuts == (10, 11, 12, 13), "the depth minus the blocks that are tried"
    assert part.settings(part.parameters_of("tail")) == TAIL
    assert part.depths == (12,)
    both = space("depth", "train_blocks")
    assert both.cuts == (12,)
    assert both.settings(both.parameters_of("tail")) == TAIL


@pytest.mark.parametrize("trained", ["all", "head"])
def test_a_tail_without_a_number_of_blocks_keeps_them(trained: str) -> None:
    part = space("train_blocks", train_blocks=trained)
    settings = part.settings({**part.parameters_of("tail"), "learning_rate": 1e-3})
    assert (settings.train_blocks, settings.depth, settings.learning_rate) == (trained, "14", 1e-3)
    assert not part.cuts


def test_costs_are_relative_to_the_default_tail() -> None:
    whole = space()
    assert whole.cost(TAIL) == 1.0
    assert whole.cost(replace(TAIL, train_blocks="4", epochs=8)) == 4.0
    assert whole.cost(LINEAR) == 0.0
    assert whole.most_cost == 1.5
    assert space(train_blocks="6", epochs=8).most_cost == 1.0


def test_lora_has_its_rank_and_its_blocks_and_alpha_follows_the_rank() -> None:
    lora = replace(TAIL, train_blocks="lora", lora_rank=8, lora_alpha=16.0, lora_blocks="4")
    both = search_space({"tail": TAIL, "lora": lora}, (), 16, [12], 400)
    assert both.settings(both.parameters_of("lora")) == lora
    assert both.cuts == (6, 8, 10, 12, 14)
    settings = both.settings({**both.parameters_of("lora"), "lora_rank": 32, "frozen": 12, "lora_blocks": 6})
    assert (settings.lora_rank, settings.lora_alpha, settings.lora_blocks, settings.depth) == (32, 64.0, "4", "16")
    assert settings.train_blocks == "lora"
    assert both.cost(lora) == 2.0
    given = search_space({"lora": lora}, ("lora_alpha", "lora_rank"), 16, [12], 400)
    assert given.settings(given.parameters_of("lora")).lora_alpha == 16.0
    assert "lora_rank" not in given.parameters["lora"]


def test_the_size_of_a_space() -> None:
    assert search_space({"linear": LINEAR}, (), 16, [10, 12], 400).size == 6
    assert space().size == float("inf")
    assert space("learning_rate", "weight_decay").size < float("inf")


def test_flags_that_fix_everything_are_rejected() -> None:
    with pytest.raises(SettingsError, match="--depth"):
        check_leaves_something("linear", {"depth", "read"})
    check_leaves_something("auto", {"depth", "read"})
    with pytest.raises(SettingsError, match="--read"):
        search_space({"linear": LINEAR}, {"depth", "read"}, 16, [12], 400)
