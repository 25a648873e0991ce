"""The recipe of a tail: by the kind of backbone, its width, and how much text train has."""

from __future__ import annotations

from dataclasses import fields

import pytest

from lasttoken.core.config import CHOSEN, Settings
from lasttoken.core.resolve import resolve
from lasttoken.core.tail_recipe import FEW_ROWS, LITTLE_TEXT, VERY_LITTLE_TEXT, TailRecipe, TrainSize, tail_recipe

VERY_LITTLE = TrainSize(100, VERY_LITTLE_TEXT)
LITTLE = TrainSize(100, LITTLE_TEXT)
FEW = TrainSize(FEW_ROWS - 1, LITTLE_TEXT + 1)
MUCH = TrainSize(FEW_ROWS, LITTLE_TEXT + 1)


def test_a_size_counts_rows_and_characters() -> None:
    assert TrainSize.of(["two", "", "four"]) == TrainSize(3, 7)


@pytest.mark.parametrize("size", [LITTLE, FEW, MUCH])
def test_a_backbone_with_learned_positions_is_trained_as_before(size: TrainSize) -> None:
    recipe = tail_recipe("learned", 768, 12, size)
    assert recipe == TailRecipe("2", 5e-5, 16, 6, "best", "drawn", "last")


def test_the_less_text_the_more_blocks_and_epochs() -> None:
    little, few, much = (tail_recipe("rotary", 576, 16, size) for size in (LITTLE, FEW, MUCH))
    assert int(little.train_blocks) > int(few.train_blocks) == int(much.train_blocks)
    assert little.learning_rate < few.learning_rate < much.learning_rate
    assert few.epochs >= much.epochs
    assert (little.start_head, few.start_head, much.start_head) == ("linear", "linear", "drawn")
    assert int(tail_recipe("rotary", 576, 16, VERY_LITTLE).train_blocks) > int(little.train_blocks)
    tiny = tail_recipe("rotary", 576, 16, TrainSize(2, 10))
    assert tiny.epochs > little.epochs


def test_the_rate_falls_with_the_width_and_with_the_blocks_that_the_user_asks_for() -> None:
    narrow, wide = (tail_recipe("rotary", width, 16, MUCH).learning_rate for width in (576, 1152))
    assert narrow == pytest.approx(2 * wide)
    rates = {blocks: tail_recipe("rotary", 576, 16, MUCH, blocks).learning_rate for blocks in ("auto", "2", "4", "all")}
    assert rates["auto"] == rates["2"] > rates["4"] == rates["all"]


def test_no_more_blocks_are_trained_than_there_are() -> None:
    assert tail_recipe("rotary", 576, 3, LITTLE).train_blocks == "3"
    assert tail_recipe("rotary", 576, 3, LITTLE, "1").train_blocks == "1"


def test_only_settings_that_were_not_given_are_filled_in() -> None:
    recipe = tail_recipe("rotary", 576, 16, MUCH)
    filled = resolve("default", {"epochs": 9, "keep": "best"}).completed(recipe)
    assert (filled.epochs, filled.keep) == (9, "best")
    names = {item.name for item in fields(TailRecipe)} - {"epochs", "keep"}
    assert {name: getattr(filled, name) for name in names} == {name: getattr(recipe, name) for name in names}
    assert filled.completed(tail_recipe("rotary", 576, 16, LITTLE)) == filled


def test_a_linear_head_and_the_book_have_nothing_to_fill_in() -> None:
    recipe = tail_recipe("rotary", 576, 16, MUCH)
    for settings in (resolve("default", {"method": "linear"}), resolve("book")):
        assert settings.completed(recipe) == settings
    left_open = {item.name for item in fields(TailRecipe) if getattr(Settings(), item.name) in (None, CHOSEN)}
    assert left_open == {item.name for item in fields(TailRecipe)}
